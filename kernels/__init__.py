"""What a device computes with.

`operators.py` names the operations, `reference.py` says what they mean, `table.py` lists the kernels that
compute them. Importing this package doesn't import TVM; importing the table does.
"""
