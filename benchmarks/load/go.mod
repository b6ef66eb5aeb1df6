module streamtable/benchmarks/load

go 1.21
