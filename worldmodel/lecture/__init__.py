"""The lecture's claims as experiments: ``python -m worldmodel.lecture`` measures and keeps them.

Each file of ``rows/`` holds one claim. Its *twin* is the same experiment with the part broken that
the claim is about; the twin must fail, or the experiment shows nothing.
"""
