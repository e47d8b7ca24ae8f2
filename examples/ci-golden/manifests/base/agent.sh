#!/bin/sh
# The agent of the example: it says that it is well.
echo "pier agent 1.0.0"
