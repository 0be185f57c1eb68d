"""The program in a relink kit: it unpacks, links for the CANN that is here, verifies, proves and installs the result.

A kit is one zip file that Python runs. It needs Python 3.9 and its standard library, a linker, and CANN.
"""
