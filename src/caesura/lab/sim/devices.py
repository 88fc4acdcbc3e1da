"""Which device is simulated: a name or a measured profile, and the memory that goes with it."""

from dataclasses import dataclass

from caesura.lab.sim.data_sheets import DEVICES
from caesura.lab.sim.profiles import device_profile, kv_bytes_that_fit, usual_tensor_parallel
from caesura.policy.profile import DeviceProfile

DEFAULT_MODEL = "gpt-j-6b"


@dataclass(frozen=True, slots=True)
class SimulatedDevice:
    """A device with a model.

    Attributes:
        name: as it was given, a name or a path.
        profile: what it costs.
        tensor_parallel: devices that share the model; 1 for a measured profile, whose figures
            are of all of them together.
    """

    name: str
    profile: DeviceProfile
    tensor_parallel: int = 1

    def kv_memory_bytes(self) -> int:
        """Device memory beside the weights.

        Raises:
            ValueError: it is not known, since the device is a measured profile.
        """
        if self.name not in DEVICES:
            raise ValueError(
                f"{self.name} does not say how much memory is left for KV caches: give --kv-memory"
            )
        return kv_bytes_that_fit(self.name, self.profile.model, self.tensor_parallel)


def simulated_device(
    device: str, model: str | None = None, tensor_parallel: int | None = None
) -> SimulatedDevice:
    """The device to simulate.

    Args:
        device: see `device_profile`.
        model: None for the profile's own, or `DEFAULT_MODEL` on a device by name.
        tensor_parallel: None for the usual number of devices.

    Raises:
        ValueError: unknown names, a file that is no profile, a model that does not fit, or a
            number of devices for a file, which is of all that were measured.
    """
    if device not in DEVICES:
        if tensor_parallel is not None:
            raise ValueError(
                f"{device} is of as many devices as were measured together: leave out "
                "--tensor-parallel"
            )
        return SimulatedDevice(device, device_profile(device, model))
    model = model or DEFAULT_MODEL
    profile = device_profile(device, model, tensor_parallel)
    return SimulatedDevice(device, profile, tensor_parallel or usual_tensor_parallel(device, model))
