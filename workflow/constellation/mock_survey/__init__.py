"""Mock surveys in Euclid's file formats, drawn by GalSim alone."""
