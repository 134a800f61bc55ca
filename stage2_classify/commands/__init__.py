"""Commands of stage 2: they parse, open the data set, call one function and print what was written.

cli.py loads each when it is used. No torch at import.
"""
