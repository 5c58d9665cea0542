#!/bin/sh
# What sbatch runs on a node: our own process in the place of this shell, so that signals reach it.
exec "$@"
