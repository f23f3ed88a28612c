"""Real sensors, through a fake NVML and a fake psutil."""

from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from w2v_abx.thermal import Cpu, Nvml, Sensor, SensorError, auto_sensor
from w2v_abx.thermal.sensors import nvml


class FakeError(Exception):
    pass


class FakeNvml:
    """As much of ``pynvml`` as a card of the given abilities answers."""

    NVMLError = FakeError
    NVML_TEMPERATURE_GPU = 0
    NVML_TEMPERATURE_THRESHOLD_SHUTDOWN = 0
    NVML_TEMPERATURE_THRESHOLD_SLOWDOWN = 1
    NVML_TEMPERATURE_THRESHOLD_MEM_MAX = 2
    NVML_FI_DEV_MEMORY_TEMP = 82
    NVML_FI_DEV_TEMPERATURE_SLOWDOWN_TLIMIT = 195
    NVML_FI_DEV_TEMPERATURE_SHUTDOWN_TLIMIT = 194

    def __init__(self, driver: bool = True, plain: bool = False, reasons: int = 0x4, margins: bool = False) -> None:
        """``margins``: the card names no limits, but how far it is below them."""
        self.driver, self.plain, self.reasons, self.temperature = driver, plain, reasons, 71
        self.margins = margins

    def nvmlInit(self) -> None:
        if not self.driver:
            raise FakeError("NVML Shared Library Not Found")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index != 0:
            raise FakeError("Invalid Argument")
        return "GPU-a"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid not in {"GPU-a", "MIG-b"}:
            raise FakeError("Not Found")
        return uuid

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        if handle == "MIG-b":
            raise FakeError("Invalid Argument")  # an instance has no temperature of its own
        if self.temperature < 0:
            raise FakeError("GPU is lost")
        return self.temperature

    def _rich(self, value: Any) -> Any:
        if self.plain:
            raise FakeError("Not Supported")
        return value

    def nvmlDeviceGetTemperatureThreshold(self, handle: str, kind: int) -> int:
        if self.margins:
            raise FakeError("Not Supported")
        return int(self._rich({0: 98, 1: 93, 2: 105}[kind]))

    def nvmlDeviceIsMigDeviceHandle(self, handle: str) -> int:
        return int(handle.startswith("MIG-"))

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: str) -> str:
        return {"MIG-b": "GPU-a"}[handle]

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:
        if address != "00000001:0a:00.0":
            raise FakeError("Not Found")
        return "GPU-a"

    def nvmlDeviceGetMarginTemperature(self, handle: str) -> int:
        return int(self._rich(22))

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> list[Any]:
        values = {self.NVML_FI_DEV_MEMORY_TEMP: 84, 194: -9, 195: -4}
        return [self._rich(SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(siVal=values[f]))) for f in fields]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return int(self._rich(251_500))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return self._rich(SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: str) -> int:
        raise FakeError("Function Not Found")  # by a driver that knows them by their former name

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return int(self._rich(self.reasons))


def give(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml) -> FakeNvml:
    monkeypatch.setattr(nvml, "pynvml", fake)
    return fake


def chips(monkeypatch: pytest.MonkeyPatch, **found: list[tuple[float, float | None, float | None]]) -> None:
    entries = {
        name: [SimpleNamespace(label="", current=now, high=high, critical=critical) for now, high, critical in rows]
        for name, rows in found.items()
    }
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: entries, raising=False)


@pytest.mark.parametrize("device", [0, "GPU-a"])
def test_nvml_reads_a_card(monkeypatch: pytest.MonkeyPatch, device: int | str) -> None:
    give(monkeypatch, FakeNvml())
    reading = Nvml(device).read(3.0)
    assert (reading.time, reading.temperature, reading.power, reading.utilisation) == (3.0, 71.0, 251.5, 0.87)
    assert (reading.throttled, reading.slowdown, reading.shutdown) == (False, 93.0, 98.0)
    assert (reading.memory, reading.memory_slowdown, reading.throttle) == (84.0, 105.0, ("power cap",))


def test_a_card_that_tells_how_far_it_is_from_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """22 °C below the temperature at which the driver acts; the hardware slows down 4 °C and shuts down 9 °C later."""
    give(monkeypatch, FakeNvml(margins=True))
    reading = Nvml().read(0.0)
    assert (reading.slowdown, reading.shutdown) == (71 + 22 + 4, 71 + 22 + 9)


@pytest.mark.parametrize("uuid", ["a", "b", "unknown"])
def test_the_card_of_a_cuda_device_is_found(monkeypatch: pytest.MonkeyPatch, uuid: str) -> None:
    """By its UUID, as an instance of a divided one, whose card it is that has a temperature, or by its address."""
    give(monkeypatch, FakeNvml())
    bus = 10 if uuid == "unknown" else 11  # where there is no card
    found = SimpleNamespace(uuid=uuid, pci_domain_id=1, pci_bus_id=bus, pci_device_id=0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: found)
    assert Nvml.of(torch.device("cuda", 0)).read(0.0).temperature == 71


@pytest.mark.parametrize(("reasons", "throttled"), [(0x1, False), (0x4, False), (0x20, False), (0x44, True)])
def test_only_the_hardwares_own_slowdown_counts_as_throttling(
    monkeypatch: pytest.MonkeyPatch, reasons: int, throttled: bool
) -> None:
    give(monkeypatch, FakeNvml(reasons=reasons))
    assert Nvml().read(0.0).throttled is throttled


def test_what_a_card_does_not_support_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    give(monkeypatch, FakeNvml(plain=True))
    reading = Nvml().read(0.0)
    assert reading.temperature == 71
    assert {reading.power, reading.utilisation, reading.throttled, reading.slowdown, reading.shutdown} == {None}


def test_a_lost_card_is_an_error_and_not_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = give(monkeypatch, FakeNvml())
    sensor = Nvml()
    for impossible, message in ((-1, "GPU is lost"), (500, "cannot be")):
        fake.temperature = impossible
        with pytest.raises(SensorError, match=message):
            sensor.read(0.0)


@pytest.mark.parametrize(("driver", "device"), [(False, 0), (True, 7), (True, "GPU-b")])
def test_no_driver_or_no_such_card_is_a_sensor_error(
    monkeypatch: pytest.MonkeyPatch, driver: bool, device: int | str
) -> None:
    give(monkeypatch, FakeNvml(driver=driver))
    with pytest.raises(SensorError, match="NVML has no card"):
        Nvml(device)


def test_cpu_reads_its_hottest_core_and_ignores_other_chips(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, nvme=[(90, 85, 95)], coretemp=[(51, 84, 100), (63, 84, 100)])
    reading = Cpu().read(1.0)
    assert (reading.temperature, reading.slowdown, reading.shutdown, reading.power) == (63, 84, None, None)


def test_where_a_cpu_slows_itself_down_it_does_not_shut_down(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, coretemp=[(63, None, 100)], cpu_thermal=[(50, None, 110)])
    assert (Cpu().read(1.0).slowdown, Cpu().read(1.0).shutdown) == (100, None)
    chips(monkeypatch, cpu_thermal=[(50, None, 110)], acpitz=[(90, None, None)])
    assert (Cpu().read(1.0).temperature, Cpu().read(1.0).slowdown, Cpu().read(1.0).shutdown) == (50, None, 110)


def test_nonsense_limits_of_drivers_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, k10temp=[(51, 0.0, 65261.8)])
    reading = Cpu().read(1.0)
    assert (reading.slowdown, reading.shutdown) == (None, None)


def test_a_machine_without_cpu_temperatures_is_a_sensor_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, nvme=[(40, None, None)], acpitz=[(40, None, None)])  # a disk and a board
    with pytest.raises(SensorError, match="no CPU temperature"):
        Cpu()
    monkeypatch.delattr(psutil, "sensors_temperatures")
    with pytest.raises(SensorError, match="no CPU temperature"):
        Cpu()


def test_auto_reads_the_device_that_trains_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, coretemp=[(51, 84, 100)])
    give(monkeypatch, FakeNvml())
    monkeypatch.setattr(
        torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(uuid="a", pci_domain_id=0, pci_bus_id=1, pci_device_id=0),
    )
    assert isinstance(auto_sensor(torch.device("cpu")), Cpu)
    assert isinstance(auto_sensor(torch.device("cuda", 0)), Nvml)
    assert isinstance(auto_sensor(torch.device("cpu")), Sensor)
    with pytest.raises(SensorError, match="type mps"):
        auto_sensor(torch.device("mps"))
    give(monkeypatch, FakeNvml(driver=False))
    with pytest.raises(SensorError, match="NVML Shared Library Not Found"):
        auto_sensor(torch.device("cuda", 0))
