"""`w2v-abx COMMAND [overrides]`: one Hydra app per command."""

import os
import re
import sys
import traceback

import hydra.errors
import omegaconf.errors

from w2v_abx import __version__
from w2v_abx.commands import COMMANDS
from w2v_abx.config import explain
from w2v_abx.credentials import without_credentials
from w2v_abx.errors import InputError
from w2v_abx.system.machine import set_environment
from w2v_abx.system.signals import EXIT_STATUS


def usage() -> str:
    lines = ["w2v-abx COMMAND [overrides]", ""]
    for command in COMMANDS.values():
        lines += [f"  {command.name:<8} {command.purpose}", f"           {command.example}"]
    lines += ["", "w2v-abx COMMAND --help lists the command's configuration; --cfg job prints it."]
    return "\n".join(lines)


def main() -> None:
    """Run one command; what a user got wrong ends in one line on standard error. The README lists the exit statuses."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments == ["--version"]:
        print(f"w2v-abx {__version__}")
        return
    command = arguments[0]
    if command not in COMMANDS:
        fail(InputError(f"there is no command {command!r}\n\n{usage()}"))
    # The name of a config group that also names a folder: Hydra would look for a choice of the group.
    overrides = arguments[1:]
    if command == "abx":
        overrides = [re.sub("^features=(?!default$)", "features.folder=", argument) for argument in overrides]
    sys.argv = [f"{sys.argv[0]} {command}", *overrides]
    set_environment()  # before PyTorch is loaded
    sys.excepthook = lambda *error: sys.stderr.write(without_credentials("".join(traceback.format_exception(*error))))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach the handlers below instead of Hydra's trimmed traceback
    try:
        COMMANDS[command]()
    except (InputError, hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException) as error:
        fail(explain(error))
    except KeyboardInterrupt:
        print("w2v-abx: stopped by SIGINT; the same line again goes on, or begins anew", file=sys.stderr)
        sys.exit(EXIT_STATUS)


def fail(error: InputError) -> None:
    print(f"w2v-abx: {error}", file=sys.stderr)
    sys.exit(error.exit_status)


if __name__ == "__main__":
    main()
