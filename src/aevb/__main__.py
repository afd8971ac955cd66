"""The command line: ``aevb`` or ``python -m aevb``. Imports torch only once there is something to do."""

import argparse
import os
import re
import shlex
import sys
import warnings
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from . import __version__
from .config import Config

INTERRUPTED = 130
REFINED_STEPS = 100
"""Of ``evaluate --refine`` without a number."""


class _Parser(argparse.ArgumentParser):
    """One line on bad input, and exit code 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

    def commands(self) -> "dict[str, _Parser]":
        """The parser of each command."""
        (choices,) = (action.choices for action in self._actions if isinstance(action, argparse._SubParsersAction))
        return dict(choices)

    def options(self) -> list[str]:
        """As they are typed."""
        return [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]

    def refuse(self, unknown: list[str], command: str | None) -> NoReturn:
        """Say of an argument that a command does not take where it belongs, or what is near."""
        commands = self.commands()
        parser = commands[command] if command else self
        flag = next((argument.partition("=")[0] for argument in unknown if argument.startswith("-")), None)
        if flag is None:
            hint = ": --seeds is how many, --seed the first" if "--seeds" in parser.options() else ""
            parser.error(f"{' '.join(unknown)} is one argument too many{hint}")
        others = [f"aevb {name}" for name, other in commands.items() if flag in other.options() and name != command]
        near = get_close_matches(flag, parser.options(), n=1)
        elsewhere = f"; {' and '.join(others)} {'has' if len(others) == 1 else 'have'} it" if others else ""
        parser.error(f"there is no option {flag} here{elsewhere}{f'. Did you mean {near[0]}?' if near else ''}")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code: 0, 1 for a failure, 2 for bad input, 130 after Ctrl-C."""
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.refuse(unknown, arguments.command)
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
    from .checkpoints import DamagedCheckpoint
    from .inference import DivergenceError
    from .models import InputError

    commands = {
        "list": cli.list_parts,
        "train": cli.train,
        "evaluate": cli.evaluate,
        "gradients": cli.gradients,
        "compare": cli.compare,
    }
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", DamagedCheckpoint)
            warnings.showwarning = lambda message, *_: print(f"aevb: {message}", file=sys.stderr)
            warnings.filterwarnings("ignore", "A worker stopped")  # joblib has renewed one that had grown
            return commands[arguments.command](arguments)
    except (InputError, DivergenceError) as error:
        text = " ".join(line.strip() for line in str(error).splitlines())
        print(f"aevb {arguments.command}: {_as_typed(text, arguments)}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1


def _as_typed(text: str, arguments: argparse.Namespace) -> str:
    """A message on a setting that was given, which calls it as Python does, with its name on the command line."""
    name = re.match(r"(\w+) is (at least|at most|a whole number)", text)
    if name is None or name[1] not in vars(arguments):
        return text
    return f"--{name[1].replace('_', '-')}{text.removeprefix(name[1])}"


def make_parser() -> _Parser:
    """All commands and options. Options of a configuration that are not given are not in the result."""
    parser = _Parser(prog="aevb", description="Auto-encoding variational Bayes as pairs of Pyro programs.")
    parser.add_argument("--version", action="version", version=f"aevb {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    compare = commands.add_parser("compare", help="train every combination of parts, paired by seed, side by side")
    for axis, default in (
        ("estimators", ["L_A", "L_B"]),
        ("priors", [Config.prior]),
        ("guides", [Config.guide]),
        ("likelihoods", [Config.likelihood]),
    ):
        help = f"{_named(axis.removesuffix('s'))} (default: {' '.join(default)})"
        compare.add_argument(f"--{axis}", nargs="+", default=[], metavar="NAME", help=help)
    help = f"N_z (default: {Config.latents})"
    compare.add_argument("--latents", nargs="+", type=int, default=[], metavar="D", help=help)
    compare.add_argument("--seeds", type=_repetitions, metavar="N", help="paired repetitions (default: 3)")
    compare.add_argument("--workers", type=_positive, metavar="N", help="runs at a time (default: one a core)")
    train = commands.add_parser("train", help="train one combination")
    for part in ("estimator", "prior", "guide", "likelihood"):
        _option(train, part, _named(part), metavar="NAME")
    _option(train, "latents", "N_z", type=int, metavar="D")
    resume = "go on in --out from where it stopped; options that are not given are as they were there"
    for command in (compare, train):
        _common(command)
        command.add_argument("--out", metavar="DIR", help="the folder to write to (default: the next under runs/)")
        command.add_argument("--resume", action="store_true", help=resume)
    evaluate = commands.add_parser("evaluate", help="log p(x), bounds and latents of a run")
    evaluate.add_argument("run", metavar="RUN", help="a run's folder")
    evaluate.add_argument("--checkpoint", default="last", help="last, best or epoch-N (default: last)")
    evaluate.add_argument("--evidence-samples", type=int, default=5000, metavar="K", help="of log p(x) (default: 5000)")
    help = "the amortisation gap: steps of Adam on q(z|x) of each of the first 1,000 test data "
    help += f"(default: none; --refine alone: {REFINED_STEPS})"
    evaluate.add_argument(
        "--refine", type=_steps, nargs="?", const=REFINED_STEPS, default=0, metavar="STEPS", help=help
    )
    gradients = commands.add_parser(
        "gradients", help="noise, signal, bias and cost of estimators at a run's checkpoints"
    )
    gradients.add_argument("run", metavar="RUN", help="a run's folder")
    help = "see aevb list (default: all that do not refuse the pair)"
    gradients.add_argument("--estimators", nargs="+", default=[], metavar="NAME", help=help)
    help = "start, epoch-N (see train --keep-epochs) or last (default: all)"
    gradients.add_argument("--checkpoints", nargs="+", default=[], metavar="NAME", help=help)
    gradients.add_argument("--draws", type=int, default=200, metavar="N", help="of each gradient (default: 200)")
    gradients.add_argument("--batch-size", type=int, default=100, metavar="M", help="of the minibatch (default: 100)")
    help = "numbers of samples k for the picture of signal-to-noise against k, at the last checkpoint (default: none)"
    gradients.add_argument("--sweep", nargs="+", type=_positive, default=[], metavar="K", help=help)
    gradients.add_argument(
        "--seed", type=int, default=0, help="of the minibatch's pixels and of all draws (default: 0)"
    )
    listing = commands.add_parser("list", help="every model, prior, guide, likelihood, network, estimator and data set")
    for command in (compare, train, evaluate, gradients, listing):
        help = "a Python file whose classes are parts of your own, to be named as any other; it is run"
        command.add_argument("--parts", type=os.path.abspath, metavar="FILE", help=help)
    return parser


def _named(part: str) -> str:
    refined = "; NAME+Refined:steps=10 improves it for each datum by ten steps" if part == "guide" else ""
    return f"see {part}s in aevb list{refined}"


def _common(command: argparse.ArgumentParser) -> None:
    data = "a data set (see aevb list); a .npy, .npz or .mat file; or a folder of pictures"
    treatments = ["dynamic", "fixed", "relaxed", "none"]
    hidden = "units of each hidden layer of the decoder, mirrored in the encoder; nothing: linear"
    _option(command, "data", data, metavar="NAME|PATH")
    _option(command, "binarisation", "of the pixels (default: what the likelihood is for)", choices=treatments)
    _option(command, "epochs", "passes over the data", type=int)
    _option(command, "batch-size", "M", type=int)
    _option(command, "samples", "L or k, draws of z per datum (default: the estimator's)", type=int)
    _option(command, "beta", "weight of the KL", type=float)
    _option(command, "warm-up", "epochs over which beta rises from 0", type=int, metavar="EPOCHS")
    _option(command, "network", "of decoder and encoder: see networks in aevb list", metavar="NAME")
    _option(command, "hidden", hidden, type=int, nargs="*", metavar="UNITS")
    _option(command, "activation", "tanh, relu, softplus, elu, gelu or gated", metavar="NAME")
    _option(command, "initialisation", "of the weights: torch's, or the paper's N(0, 0.01)", metavar="NAME")
    _option(command, "optimizer", "Adam, Adagrad (the paper's), RMSprop or SGD", metavar="NAME")
    _option(command, "learning-rate", "default: Adam and RMSprop 0.001, Adagrad 0.02, SGD 0.01", type=float)
    _option(command, "schedule", "of the learning rate: constant, linear or cosine", metavar="NAME")
    _option(command, "weight-decay", "lambda of the prior N(0, I / lambda) on the weights; the paper's: 1", type=float)
    _option(command, "patience", "epochs without a better bound on a tenth of the training data", type=int)
    _option(command, "evidence-samples", "K of log p(x)", type=int)
    _option(command, "data-seed", "of the split and of what is binarised once", type=int)
    _option(command, "seed", "of weights, minibatches and noise (compare: the first one)", type=int)
    _option(
        command,
        "engine",
        "svi: run the pair at every step; fast: replay its operations; compiled: and compile them; auto: what pays",
        choices=["auto", "svi", "fast", "compiled"],
    )
    _option(command, "device", "auto: CUDA where there is one", choices=["auto", "cpu", "cuda"])
    _option(command, "threads", "of the CPU, for one run (default: train all, compare 1)", type=int)
    _option(command, "keep-epochs", "epochs whose checkpoints are kept", type=int, nargs="+", metavar="N")
    _option(command, "tensorboard", "log for TensorBoard too", action="store_true")


def _option(command: argparse.ArgumentParser, name: str, help: str, **settings: Any) -> None:
    """An option of :class:`Config`, absent unless given, whose default is shown."""
    default = getattr(Config, name.replace("-", "_"))
    if default not in (None, False, ()):
        help += f" (default: {' '.join(map(str, default)) if isinstance(default, tuple) else default})"
    command.add_argument(f"--{name}", default=argparse.SUPPRESS, help=help, **settings)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a whole number, at least 1, is needed, not {text}")
    return int(text)


def _steps(text: str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(
            f"a number of steps is needed, not {text}; a run is named before it: RUN --refine"
        ) from error


def _repetitions(text: str) -> int:
    try:
        return _positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}: --seeds is how many, --seed the first") from error


if __name__ == "__main__":
    sys.exit(main())
