"""Numerics of the study on NumPy arrays: estimates, intervals, tests, fits.

Knows nothing of models, datasets or files, and imports nothing else of deltascale. Importing it
costs NumPy and scipy.special. Read in this order:

- `paired`, `clustered`, `headline`, `flips`: one delta, its interval and what lies under it;
- `multiplicity`, `contrasts`, `resampling`: many deltas on the same items;
- `families`, `scaling`, `claims`, `family_bootstrap`: delta against size, and what may be said;
- `two_rate`, `error_rate`, `uncertain`: other models of it, and sizes that are not known;
- `cost`, `majority`, `power`, `components`, `checks`: price, design, transfer, artefacts;
- `regions`, `draws`: sets that may have no end, and keyed random numbers;
- `chinchilla`: L(N, D), which checks our tools on published data.

Every public name of these modules is public here too.
"""

from deltascale.stats import (
    checks,
    chinchilla,
    claims,
    clustered,
    components,
    contrasts,
    cost,
    draws,
    error_rate,
    families,
    family_bootstrap,
    flips,
    headline,
    majority,
    multiplicity,
    paired,
    power,
    regions,
    resampling,
    scaling,
    two_rate,
    uncertain,
)
from deltascale.stats.checks import *  # noqa: F403
from deltascale.stats.chinchilla import *  # noqa: F403
from deltascale.stats.claims import *  # noqa: F403
from deltascale.stats.clustered import *  # noqa: F403
from deltascale.stats.components import *  # noqa: F403
from deltascale.stats.contrasts import *  # noqa: F403
from deltascale.stats.cost import *  # noqa: F403
from deltascale.stats.draws import *  # noqa: F403
from deltascale.stats.error_rate import *  # noqa: F403
from deltascale.stats.families import *  # noqa: F403
from deltascale.stats.family_bootstrap import *  # noqa: F403
from deltascale.stats.flips import *  # noqa: F403
from deltascale.stats.headline import *  # noqa: F403
from deltascale.stats.majority import *  # noqa: F403
from deltascale.stats.multiplicity import *  # noqa: F403
from deltascale.stats.paired import *  # noqa: F403
from deltascale.stats.power import *  # noqa: F403
from deltascale.stats.regions import *  # noqa: F403
from deltascale.stats.resampling import *  # noqa: F403
from deltascale.stats.scaling import *  # noqa: F403
from deltascale.stats.two_rate import *  # noqa: F403
from deltascale.stats.uncertain import *  # noqa: F403

# Each module lists its own public names; naming them all again would only let the lists differ.
__all__ = []
__all__ += checks.__all__
__all__ += chinchilla.__all__
__all__ += claims.__all__
__all__ += clustered.__all__
__all__ += components.__all__
__all__ += contrasts.__all__
__all__ += cost.__all__
__all__ += draws.__all__
__all__ += error_rate.__all__
__all__ += families.__all__
__all__ += family_bootstrap.__all__
__all__ += flips.__all__
__all__ += headline.__all__
__all__ += majority.__all__
__all__ += multiplicity.__all__
__all__ += paired.__all__
__all__ += power.__all__
__all__ += regions.__all__
__all__ += resampling.__all__
__all__ += scaling.__all__
__all__ += two_rate.__all__
__all__ += uncertain.__all__
