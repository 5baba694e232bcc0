"""The ground floor: compiling, bundles of arrays, records, random numbers, heaps."""
