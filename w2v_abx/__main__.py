"""`w2v-abx COMMAND [overrides]`: one Hydra app per command."""

import errno
import os
import re
import signal
import sys
import traceback

# While modules are imported, a Ctrl-C ends the process without a traceback; under nohup it is ignored.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler and (
    __name__ == "__main__" or sys.argv[0].endswith("/w2v-abx")
):
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import hydra.errors
import omegaconf.errors

from w2v_abx import __version__
from w2v_abx.commands import COMMANDS
from w2v_abx.commands.arguments import read_arguments
from w2v_abx.commands.completion import SCRIPT, complete
from w2v_abx.commands.help import composed, describe
from w2v_abx.commands.listing import PURPOSE, listed
from w2v_abx.config import explain
from w2v_abx.credentials import without_credentials
from w2v_abx.errors import InputError, NotWritten
from w2v_abx.system import ending
from w2v_abx.system.machine import set_environment
from w2v_abx.system.signals import EXIT_STATUS
from w2v_abx.system.streams import lasting_streams

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)  # what a disk says that takes no more


def usage() -> str:
    lines = ["w2v-abx COMMAND [overrides]", ""]
    for command in COMMANDS.values():
        lines += [f"  {command.name:<8} {command.purpose}", f"           {command.example}"]
    lines += [f"  {'list':<8} {PURPOSE}", "           w2v-abx list model"]
    lines += ["", "w2v-abx COMMAND --help explains the command's settings; --cfg job prints them."]
    lines += ['eval "$(w2v-abx --completion)" makes Tab complete commands, settings and choices (bash).']
    return "\n".join(lines)


def main() -> None:
    """Run one command; what a user got wrong ends in one line on standard error. The README lists the exit statuses."""
    with lasting_streams():
        try:
            run(sys.argv[1:])
        except (InputError, hydra.errors.HydraException, omegaconf.errors.OmegaConfBaseException) as error:
            fail(explain(error))
        except OSError as error:  # of the machine, not of this program
            kind = NotWritten if error.errno in FULL else InputError
            fail(kind(f"{error.filename}: {error.strerror}" if error.filename else str(error)))
        except KeyboardInterrupt:
            named = COMMANDS.get(sys.argv[0].rpartition(" ")[2])
            print(f"w2v-abx: stopped by SIGINT; {named.onwards if named else 'begin it again'}", file=sys.stderr)
            sys.exit(EXIT_STATUS)


def run(arguments: list[str]) -> None:
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if "--version" in arguments:
        print(f"w2v-abx {__version__}")
        return
    if arguments == ["--completion"]:
        print(SCRIPT)
        return
    if arguments[0] == "--complete":
        print("\n".join(complete(" ".join(arguments[1:]), COMMANDS)))
        return
    command = arguments[0]
    if command == "list":
        print(listed(arguments[1:]))
        return
    if command not in COMMANDS:
        raise InputError(f"there is no command {command!r}\n\n{usage()}")
    read = read_arguments(arguments[1:])
    if read.help:
        print(describe(command, COMMANDS[command].purpose, composed(command, read.overrides, read.config_dir)))
        return
    flags = [argument for argument in arguments[1:] if argument not in read.overrides]
    overrides = read.overrides
    if command == "abx":  # a config group that also names a folder: Hydra would look for a choice of the group
        overrides = [re.sub("^features=(?!default$)", "features.folder=", override) for override in overrides]
    sys.argv = [f"{sys.argv[0]} {command}", *flags, *overrides]  # Hydra takes no flag between overrides
    set_environment()  # before PyTorch is loaded
    sys.excepthook = lambda *error: sys.stderr.write(without_credentials("".join(traceback.format_exception(*error))))
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors reach the handlers above instead of Hydra's trimmed traceback
    COMMANDS[command]()


def fail(error: InputError) -> None:
    print(f"w2v-abx: {error}", file=sys.stderr)
    sys.exit(error.exit_status)


def entry() -> None:
    """Be the process of a command."""
    ending.run(main)


if __name__ == "__main__":
    entry()
