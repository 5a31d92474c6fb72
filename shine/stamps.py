"""How wide the stamps are that sources are drawn and fitted on. Light to import."""

STAMP_SIZES = (32, 48, 64, 96, 128, 192, 256)  # pixels
# Blends are few and programs cost seconds to compile: every other size for them.
BLEND_STAMP_SIZES = (64, 128, 256)
PIXEL_ARCSEC = 0.1  # of VIS
FARTHEST_ARCSEC = STAMP_SIZES[-1] / 2 * PIXEL_ARCSEC  # that a stamp reaches from its middle
