"""Sections of the Metal Shading Language Specification ("MSL") that findings cite, by their numbers.

The numbers are those of version 4 of 2025-06-05; other versions number some sections differently, so that a citation
has the title too.
"""

from __future__ import annotations

TITLES = {
    "1.5": "Metal and C++",
    "1.5.1": "Overloading",
    "1.5.4": "Restrictions",
    "2.1": "Scalar Data Types",
    "2.2": "Vector Data Types",
    "2.2.1": "Accessing Vector Components",
    "2.2.2": "Vector Constructors",
    "2.2.3": "Packed Vector Types",
    "2.6": "Atomic Data Types",
    "2.21": "Type Conversions and Re-interpreting Data",
    "2.22": "Implicit Type Conversions",
    "3.1": "Scalar and Vector Operators",
    "4": "Address Spaces",
    "4.1": "Device Address Space",
    "4.2": "Constant Address Space",
    "4.3": "Thread Address Space",
    "4.4": "Threadgroup Address Space",
    "5.3": "Storage Class Specifiers",
    "6.3": "Integer Functions",
    "6.4": "Relational Functions",
    "6.5": "Math Functions",
    "6.7": "SIMD-group Matrix Functions",
    "6.8": "Geometric Functions",
    "6.9.1": "Threadgroup and SIMD-group Synchronization Functions",
    "6.9.2": "SIMD-group Functions",
    "6.15.1": "Memory Order",
    "6.15.4": "Atomic Functions",
    "6.15.4.1": "Atomic Store Functions",
    "6.15.4.3": "Atomic Exchange Functions",
    "6.15.4.5": "Atomic Fetch and Modify Functions",
    "6.15.4.6": "Atomic Modify Functions (64 Bits)",
}


def msl(number: str) -> str:
    """A section as a finding cites it, such as ``MSL 4.2, Constant Address Space``."""
    return f"MSL {number}, {TITLES[number]}"
