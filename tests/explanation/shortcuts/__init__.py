"""Tests of the search for shortcuts."""
