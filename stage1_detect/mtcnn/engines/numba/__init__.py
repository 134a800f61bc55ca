"""The networks compiled for the CPU by Numba. They know arrays only; see README.md here."""
