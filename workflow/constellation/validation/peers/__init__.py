"""Other codes on the same validation images: AnaCal (GPL-3.0) and LensMC (LGPL-3.0-or-later).

They are the optional group `peers`: measured against, never a part of the product. Nothing else
imports them, and nothing of theirs is distributed with this repository.
"""

METHOD_NAMES = {
    "anacal": "AnaCal, true positions",
    "anacal_catalogue": "AnaCal, catalogue's positions",
    "lensmc": "LensMC, mean of its samples",
    "lensmc_mode": "LensMC, mode",
}
