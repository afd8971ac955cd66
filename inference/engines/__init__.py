"""How the steps of a run are computed, and what makes that fast."""

from .choose import ENGINES as ENGINES
from .choose import make_engine as make_engine
from .choose import restored as restored
from .choose import without_replay as without_replay
from .engine import Engine as Engine
from .loop import Loop as Loop
from .replay import Replay as Replay
from .step import Step as Step
from .trace import CannotReplay as CannotReplay
from .trace import WrongReplay as WrongReplay
