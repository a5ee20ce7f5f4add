"""Test sets: from files of many formats to labelled images and a model's input."""
