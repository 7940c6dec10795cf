"""What a device computes with.

`operations/` says what is demanded, `reference/` what that means, `table.py` which kernels compute it.
Importing this package doesn't import TVM; importing the table does.
"""
