"""Estimators of a bound and its gradient: one file and one line here each."""

from .dreg import DReG as DReG
from .estimator import Estimate as Estimate
from .estimator import Estimator as Estimator
from .estimator import KLPath as KLPath
from .estimator import Target as Target
from .iwae import IWAE as IWAE
from .l_a import L_A as L_A
from .l_b import L_B as L_B
from .l_b_mixed import L_B_mixed as L_B_mixed
from .reinforce import REINFORCE as REINFORCE
from .renyi import Renyi as Renyi
from .rws import RWS as RWS
from .stl import STL as STL
from .vimco import VIMCO as VIMCO
from .wake_sleep import WakeSleep as WakeSleep
from .wake_wake import WakeWake as WakeWake
