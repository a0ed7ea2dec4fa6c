"""Contract suites, strategies and small shards: for our tests and other people's members.

A new member of a family is tested by subclassing the family's contract suite. Only tests
import from here; it needs pytest and Hypothesis, which the library itself does not.
"""
