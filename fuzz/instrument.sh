#!/bin/sh
# Cargo runs this in place of rustc for the crates of this workspace: with the coverage counters that
# libFuzzer reads. Everything else is compiled as always.
rustc="$1"
shift
exec "$rustc" "$@" -C passes=sancov-module -C codegen-units=1 \
    -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
    -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
