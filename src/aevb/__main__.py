"""The command line: ``aevb`` or ``python -m aevb``. Imports torch only once there is something to do."""

import argparse
import os
import shlex
import sys
from collections.abc import Sequence
from typing import NoReturn

from . import __version__
from .config import Config

INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """One line on bad input, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C."""
    parser = make_parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.print_help()
        return 0
    arguments.command_line = shlex.join(["aevb", *(sys.argv[1:] if argv is None else argv)])
    try:
        return _run(arguments)
    except KeyboardInterrupt:
        print("aevb: interrupted; what was finished is kept, with the last good state of the run", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _run(arguments: argparse.Namespace) -> int:
    from . import cli
    from .inference import DivergenceError
    from .models import InputError

    try:
        {"list": cli.list_parts, "train": cli.train, "compare": cli.compare}[arguments.command](arguments)
    except (InputError, DivergenceError) as error:
        text = " ".join(line.strip() for line in str(error).splitlines())
        print(f"aevb {arguments.command}: {text}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    return 0


def make_parser() -> argparse.ArgumentParser:
    """All commands and options."""
    parser = _Parser(prog="aevb", description="Auto-encoding variational Bayes as pairs of Pyro programs.")
    parser.add_argument("--version", action="version", version=f"aevb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    compare = commands.add_parser(
        "compare",
        help="train every combination of parts, paired by seed, and lay them side by side",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    for axis, default in (
        ("estimators", ["L_A", "L_B"]),
        ("priors", [Config.prior]),
        ("guides", [Config.guide]),
        ("likelihoods", [Config.likelihood]),
    ):
        compare.add_argument(f"--{axis}", nargs="+", default=default, metavar="NAME", help=f"{axis} (see aevb list)")
    compare.add_argument("--latents", nargs="+", type=int, default=[Config.latents], metavar="D", help="N_z")
    compare.add_argument("--seeds", type=_positive, default=3, metavar="N", help="paired repetitions")
    train = commands.add_parser(
        "train", help="train one combination", formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for part in ("estimator", "prior", "guide", "likelihood"):
        train.add_argument(f"--{part}", default=getattr(Config, part), metavar="NAME", help=f"{part} (see aevb list)")
    train.add_argument("--latents", type=int, default=Config.latents, metavar="D", help="N_z")
    for command in (compare, train):
        _common(command)
    commands.add_parser("list", help="every model, prior, guide, likelihood, network, estimator and data set")
    return parser


def _common(command: argparse.ArgumentParser) -> None:
    def option(name: str, help: str, **settings: object) -> None:
        default = getattr(Config, name.replace("-", "_"))
        command.add_argument(f"--{name}", default=default, help=help, **settings)  # type: ignore[arg-type]

    option("data", "a data set (see aevb list) or a .npy file", metavar="NAME|PATH")
    option(
        "binarisation",
        "of the pixels; None: what the likelihood is for",
        choices=["dynamic", "fixed", "relaxed", "none"],
    )
    option("epochs", "passes over the data", type=int)
    option("batch-size", "M", type=int)
    option("samples", "L, draws of z per datum", type=int)
    option("beta", "weight of the KL", type=float)
    option(
        "hidden",
        "units of each hidden layer of the decoder, mirrored in the encoder; none: linear",
        type=int,
        nargs="*",
    )
    option("activation", "tanh, relu, softplus, elu or gelu", metavar="NAME")
    option("initialisation", "of the weights: torch's, or the paper's N(0, 0.01)", metavar="NAME")
    option("optimizer", "Adam, Adagrad (the paper's), RMSprop or SGD", metavar="NAME")
    option("learning-rate", "None: Adam and RMSprop 0.001, Adagrad 0.02, SGD 0.01", type=float)
    option("schedule", "of the learning rate: constant, linear or cosine", metavar="NAME")
    option("weight-decay", "lambda of the prior N(0, I / lambda) on the weights; 1: the paper's MAP", type=float)
    option("patience", "stop after so many epochs without a better bound on a tenth of the training data", type=int)
    option("evidence-samples", "K of log p(x)", type=int)
    option("data-seed", "of the split and of what is binarised once", type=int)
    option("seed", "of the weights, the minibatches and the noise (compare: the first one)", type=int)
    option("device", "auto: CUDA where there is one", choices=["auto", "cpu", "cuda"])
    command.add_argument("--out", metavar="DIR", help="a new folder for what is written; None: the next under runs/")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"at least 1 is needed, not {value}")
    return value


if __name__ == "__main__":
    sys.exit(main())
