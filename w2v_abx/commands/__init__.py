"""The commands: each a thin Hydra app."""

import importlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from w2v_abx.config import CONF, expand_home
from w2v_abx.credentials import CleanRecord, public
from w2v_abx.distributed import current_process, describe_job, follow, run_ranks
from w2v_abx.distributed.gpus import take_gpus
from w2v_abx.errors import InputError
from w2v_abx.runs import run_folder

__all__ = ["COMMANDS", "Command", "output_folder"]

NOISE = (  # of libraries, about what is so on purpose
    ".*AMP with fp16 is not supported on CPU.*",  # and is refused
    ".*The `srun` command is available on your system but is not used.*",  # this package starts ranks, too
    ".*isinstance.treespec, LeafSpec.*",
    ".*Experiment logs directory .* exists and is not empty.*",  # the run's folder
    ".*module\\(s\\) in eval mode at the start of training.*",  # frozen parts
    ".*`broadcast_buffers` is deprecated.*",  # Lightning's own, with several processes
)

PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Command:
    """A command: the Hydra app that reads ``conf/NAME.yaml``.

    What its jobs do is ``main`` of the module of the same name in this package. That is imported when a job starts:
    it takes seconds, which ``--help`` and a sweep's own process need not wait.

    Where it is ``divided``, each of its jobs runs in as many processes as its ``trainer`` asks for. They are started
    here, one after another job's have ended, unless srun or torchrun has started them.
    """

    name: str
    purpose: str
    example: str
    divided: bool = False
    onwards: str = "begin it again"  # what to do after Ctrl-C

    def __call__(self) -> None:
        """Read the command line and do what it says."""
        if self.divided and current_process().rank:
            follow()  # the first rank has the folder and says what to do
            return

        begun = False
        failures: list[Exception] = []

        def job(config: DictConfig) -> None:
            nonlocal begun
            begun = True
            sys.argv = public(sys.argv)  # Hydra has read it; W&B records it
            try:
                expand_home(config)
                self.run(config)
            except Exception as error:
                if HydraConfig.get().mode != RunMode.MULTIRUN:
                    failures.append(error)  # raised below: Hydra would say first that it was raised
                    return
                if not isinstance(error, InputError):
                    raise
                # One that a launcher can send from its process to this one.
                raise InputError(str(error), error.exit_status) from error

        job.__module__ = f"{__name__}.{self.name}"  # by which Hydra names the job
        with warnings.catch_warnings():
            # conf/hydra/launcher/joblib.yaml is whole by itself, with or without what the plugin says of that name.
            warnings.filterwarnings("ignore", r"\n'hydra/launcher/joblib' is validated")
            try:
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=self.name)(job)()
            except (OSError, ValueError) as error:
                if begun or isinstance(error, HydraException):
                    raise
                raise InputError(_unbegun(error)) from error
        if failures:
            raise failures[0]
        if self.divided and current_process().size > 1:
            current_process().give_job("", Path())  # for ranks that still wait: it may have been --help

    def __reduce__(self) -> tuple[Callable[[str, list[str]], Any], tuple[str, list[str]]]:
        """By name, so that a launcher can send it to another process, and with what the user typed."""
        return _with_arguments, (self.name, public(sys.argv))

    def run(self, config: DictConfig) -> None:
        """Do the job that Hydra has begun in this process: here, or in ranks of its own."""
        if self.divided:
            print(f"w2v-abx {self.name}: in {output_folder()}", file=sys.stderr)  # loading the frameworks takes seconds
        with _quiet():
            importlib.import_module(f"{__name__}.values").check_values(config)
        if not self.divided:
            self.work(config)
            return
        from w2v_abx.training.trainers import processes

        if "joblib" in HydraConfig.get().launcher["_target_"] and config.trainer.accelerator != "cpu":
            take_gpus(config.trainer.devices)
        with _quiet():
            nodes, devices = processes(config.trainer)
        size = current_process().size
        if size > 1:
            if nodes * devices != size:
                raise InputError(
                    f"trainer.num_nodes={nodes} and trainer.devices={devices} make {nodes * devices} processes, and "
                    f"srun or torchrun has started {size}"
                )
            if HydraConfig.get().mode == RunMode.MULTIRUN and "SUBMITIT_FOLDER" not in os.environ:
                raise InputError(
                    "a sweep starts in one process, not under srun or torchrun: hydra/launcher=slurm gives each of its "
                    "jobs the processes it needs"
                )
            if not current_process().rank:
                current_process().give_job(describe_job(__name__, self.name, config), output_folder())
        elif nodes > 1:
            raise InputError(
                f"trainer.num_nodes={nodes}: start the processes of all nodes with srun (trainer=slurm) or torchrun"
            )
        elif devices > 1:
            run_ranks(describe_job(__name__, self.name, config), devices)
            return
        self.work(config)

    def work(self, config: DictConfig) -> None:
        """Do this process's part of a job."""
        with _quiet():
            importlib.import_module(f"{__name__}.{self.name}").main(config)


COMMANDS = {
    command.name: command
    for command in (
        Command(
            "prepare",
            "clean and pack a corpus into shards",
            "w2v-abx prepare corpus=esc10 corpus.root=ESC-10",
            onwards="the same line again goes on where it was",
        ),
        Command(
            "train",
            "fine-tune, with ABX before and after",
            "w2v-abx train experiment=demo",
            divided=True,
            onwards="the same line with resume=auto goes on with the last run",
        ),
        Command(
            "abx",
            "score a model or features",
            "w2v-abx abx model=wav2vec2_base abx=item_file abx.items=FILE abx.root=DIR",
            divided=True,
        ),
        Command(
            "analyze",
            "look inside models, layer by layer",
            "w2v-abx analyze analysis=isotropy runs=[outputs/A,outputs/B]",
        ),
        Command(
            "compare",
            "compare the ABX of runs",
            "w2v-abx compare before=outputs/A after=outputs/B",
        ),
    )
}


logging.setLogRecordFactory(CleanRecord)  # Hydra logs what each job of a sweep is given
OmegaConf.register_new_resolver("run_folder", run_folder, use_cache=True, replace=True)


def output_folder() -> Path:
    """The folder of the run that Hydra has started."""
    return Path(HydraConfig.get().runtime.output_dir)


def _with_arguments(name: str, arguments: list[str]) -> Command:
    sys.argv = arguments
    return COMMANDS[name]


def _unbegun(error: Exception) -> str:
    """Say why Hydra began no job."""
    if isinstance(error, OSError):
        return (
            f"{error.filename or 'the folder of the run'} cannot be written ({error.strerror}): choose another folder "
            f"with paths.outputs=… or hydra.run.dir=… (of a sweep: hydra.sweep.dir=…)"
        )
    return str(error)


@contextmanager
def _quiet() -> Iterator[None]:
    for name in ("lightning.pytorch.utilities.rank_zero", "lightning.fabric.utilities.distributed"):
        logging.getLogger(name).setLevel(logging.WARNING)
    default = warnings.formatwarning

    def formatted(message: Warning | str, category: type[Warning], filename: str, lineno: int, line: Any = None) -> str:
        ours = category is UserWarning and Path(filename).is_relative_to(PACKAGE)
        return f"w2v-abx: warning: {message}\n" if ours else default(message, category, filename, lineno, line)

    with warnings.catch_warnings():
        for message in NOISE:
            warnings.filterwarnings("ignore", message)
        warnings.formatwarning = formatted
        try:
            yield
        finally:
            warnings.formatwarning = default
