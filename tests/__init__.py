"""Tests of convscale: laws over whole folders first, then worked examples."""
