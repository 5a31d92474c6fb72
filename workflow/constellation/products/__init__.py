"""Science products of a published catalogue: shear and mass maps, profiles, correlations."""
