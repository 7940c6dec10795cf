"""Machine code stays what it was, byte for byte, where kernels were only moved or renamed."""

import pytest

from edgec.compiler.records.records import shipped
from edgec.compiler.records.signature import signature
from tests.compiler.records import shipped_code

RECORDS = list(shipped().entries.values())
PINNED = shipped_code.FILE.read_text().split()


def test_every_record_has_its_code_pinned_and_its_layer_can_be_made() -> None:
    assert len(PINNED) == len(RECORDS)
    for record in RECORDS:
        layer = shipped_code.layer_of(record.operation)
        assert signature(layer.operation, layer.demands) == record.operation


@pytest.mark.slow
def test_machine_code_is_what_is_pinned() -> None:
    """Of a twelfth of the layers; `python -m tests.compiler.records.shipped_code` compares all."""
    assert shipped_code.all_hashed(RECORDS[::12]) == PINNED[::12]
