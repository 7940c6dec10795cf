"""What tests of several folders share."""

import pytest

from edgec.bench import devices
from edgec.errors import DeviceError
from edgec.targets import loader


@pytest.fixture(scope="session")
def arm_emulator() -> None:
    """Skips the tests that use it where the emulator of Arm devices isn't installed."""
    try:
        devices.connect("emulator", loader.load("rpi5-int8"))
    except DeviceError as error:
        pytest.skip(str(error))
