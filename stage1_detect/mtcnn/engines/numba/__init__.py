"""The networks compiled for the CPU by Numba. It knows arrays only; see README.md here."""
