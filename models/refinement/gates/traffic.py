"""What each judging label stands for in traffic: arrays in, arrays out.

The audit lane is a fair draw from all images: a label stands for 1 / p images, p being the recorded probability. Watch
labels are of flagged images only. Both are draws of the flagged part of traffic, so its weight, which the audit lane
estimates, is shared out over both in proportion to their numbers (Hartley 1962). This assumes that which flagged images
get a label does not depend on the loss beyond being flagged.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Marks = NDArray[np.bool_]


def traffic_weights(probabilities: Array, audit_flagged: Marks, watch_flagged: Marks) -> Array:
    """probabilities, audit_flagged: [a] of the audit labels; watch_flagged: [w] -> weights [a + w], audit first.

    The flags are those of the live version, for all labels. Watch labels that it does not flag have weight 0, and so
    have all of them when no audit label is flagged: their part of traffic is not known then.
    """
    audit = 1 / probabilities
    flagged_weight = float(audit[audit_flagged].sum())
    watched, flagged = int(watch_flagged.sum()), int(audit_flagged.sum())
    if not watched or not flagged:
        return np.concatenate((audit, np.zeros(watch_flagged.size)))
    to_watch = watched / (watched + flagged)
    weights = np.where(audit_flagged, audit * (1 - to_watch), audit)
    return np.concatenate((weights, np.where(watch_flagged, flagged_weight * to_watch / watched, 0.0)))
