"""Names and addresses of machines."""

import ipaddress


def is_loopback(name: str) -> bool:
    """Whether a host name or address means the machine itself."""
    name = name.rstrip(".").lower()
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name == "localhost" or name.endswith(".localhost")
