"""Validation images, drawn by GalSim alone: nothing here knows the code under test."""
