"""What tests of several folders share."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from edgec.bench import devices
from edgec.errors import DeviceError
from edgec.targets import loader

settings.register_profile("unhurried", deadline=None)  # a busy machine must not fail a test
settings.load_profile("unhurried")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="make golden files what is emitted now")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to become what is emitted now."""
    return bool(request.config.getoption("--update-golden"))


@pytest.fixture(scope="session", autouse=True)
def _own_data_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep this user's tuning records out of tests, and what tests tune out of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_DATA_HOME", str(tmp_path_factory.mktemp("data")))
        yield


@pytest.fixture(scope="session")
def arm_emulator() -> None:
    """Skips the tests that use it where the emulator of Arm devices isn't installed."""
    try:
        devices.connect("emulator", loader.load("rpi5-int8"))
    except DeviceError as error:
        pytest.skip(str(error))


def board_of(core: str) -> None:
    """Skip a test where the emulator of one microcontroller isn't installed."""
    try:
        devices.connect("emulator", loader.load(f"{core}-int8"))
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def board_emulator() -> None:
    """Skips the tests that use it where the emulator of Arm's microcontrollers isn't installed."""
    board_of("cortex-m4")
