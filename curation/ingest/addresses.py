"""Which addresses of the internet are public, and which lead back to this network.

What Python calls global depends on its version: until 3.11.9 that had parts of networks
that are kept for protocols, and it has addresses that one cloud gives its own service.
"""

import ipaddress

_PUBLIC_V6 = ipaddress.ip_network("2000::/3")
"""The one part of IPv6 that is given to anybody: RFC 4291, section 2.4."""

_NOT_PUBLIC = tuple(
    map(
        ipaddress.ip_network,
        (
            # not globally reachable, or deprecated, by IANA's special-purpose registries:
            # https://www.iana.org/assignments/iana-ipv4-special-registry
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8"),
            *("169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24"),
            *("192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24"),
            *("203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
            # https://www.iana.org/assignments/iana-ipv6-special-registry; 2001::/23 has
            # Teredo, and 2002::/16 is 6to4: both stand for IPv4 addresses
            *("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"),
            # answers each machine of Azure, with what that machine may know
            "168.63.129.16/32",
        ),
    )
)


def is_public(address: str) -> bool:
    """Tell whether an address is one of the internet's, that anybody may have.

    Args:
        address: As a resolver gives it, with a scope or not.

    Returns:
        False too of what stands for an IPv4 address that is not public, or could.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    inner = getattr(found, "ipv4_mapped", None) or found
    if inner.version == 6 and inner not in _PUBLIC_V6:
        return False
    listed = any(inner in network for network in _NOT_PUBLIC)
    return inner.is_global and not listed and not inner.is_multicast
