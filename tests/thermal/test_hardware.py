"""Real sensors, through a fake NVML and a fake psutil."""

import sys
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch

from w2v_abx.thermal import Cpu, Nvml, Sensor, SensorError, auto_sensor


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

    def __init__(self, driver: bool = True, plain: bool = False, reasons: int = 0x4) -> None:
        self.driver, self.plain, self.reasons, self.temperature = driver, plain, reasons, 71

    def nvmlInit(self) -> None:
        if not self.driver:
            raise FakeError("NVML Shared Library Not Found")

    def nvmlDeviceGetHandleByIndex(self, index: int) -> str:
        if index != 0:
            raise FakeError("Invalid Argument")
        return "GPU-a"

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:
        if uuid != "GPU-a":
            raise FakeError("Not Found")
        return uuid

    def nvmlDeviceGetTemperature(self, handle: str, sensor: int) -> int:
        if self.temperature < 0:
            raise FakeError("GPU is lost")
        return self.temperature

    def _rich(self, value: Any) -> Any:
        if self.plain:
            raise FakeError("Not Supported")
        return value

    def nvmlDeviceGetTemperatureThreshold(self, handle: str, kind: int) -> int:
        return int(self._rich({0: 98, 1: 93, 2: 105}[kind]))

    def nvmlDeviceIsMigDeviceHandle(self, handle: str) -> int:
        return 0

    def nvmlDeviceGetHandleByPciBusId(self, address: str) -> str:
        raise FakeError("Not Found")

    def nvmlDeviceGetMarginTemperature(self, handle: str) -> int:
        return int(self._rich(22))

    def nvmlDeviceGetFieldValues(self, handle: str, fields: list[int]) -> list[Any]:
        return [self._rich(SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(siVal=84))) for _ in fields]

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:
        return int(self._rich(251_500))

    def nvmlDeviceGetUtilizationRates(self, handle: str) -> Any:
        return self._rich(SimpleNamespace(gpu=87, memory=40))

    def nvmlDeviceGetCurrentClocksThrottleReasons(self, handle: str) -> int:
        return int(self._rich(self.reasons))


def give(monkeypatch: pytest.MonkeyPatch, fake: FakeNvml) -> FakeNvml:
    monkeypatch.setitem(sys.modules, "pynvml", fake)
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
    assert (reading.temperature, reading.slowdown, reading.shutdown, reading.power) == (63, 84, 100, None)


def test_nonsense_limits_of_drivers_are_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, k10temp=[(51, 0.0, 65261.8)])
    reading = Cpu().read(1.0)
    assert (reading.slowdown, reading.shutdown) == (None, None)


def test_a_machine_without_cpu_temperatures_is_a_sensor_error(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, nvme=[(40, None, None)])
    with pytest.raises(SensorError, match="no CPU temperature"):
        Cpu()
    monkeypatch.delattr(psutil, "sensors_temperatures")
    with pytest.raises(SensorError, match="no CPU temperature"):
        Cpu()


def test_auto_takes_nvml_then_psutil_then_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    chips(monkeypatch, coretemp=[(51, 84, 100)])
    give(monkeypatch, FakeNvml())
    assert isinstance(auto_sensor(), Nvml)
    give(monkeypatch, FakeNvml(driver=False))
    found = auto_sensor()
    assert isinstance(found, Cpu)
    assert isinstance(found, Sensor)
    chips(monkeypatch)
    assert auto_sensor() is None


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
    assert auto_sensor(torch.device("mps")) is None
    give(monkeypatch, FakeNvml(driver=False))
    assert auto_sensor(torch.device("cuda", 0)) is None
