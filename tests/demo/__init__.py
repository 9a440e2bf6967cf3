"""Tests of the tiny world."""
