# Appends the lines of each batch to the file "points" in its directory, in InfluxDB's line protocol. Reads a batch whole
# before anything is written: half a one, where the agent is gone, comes again.
# Run as: awk -W interactive -f points.awk (mawk reads whole buffers otherwise; others ignore it).
BEGIN {
    print "{\"ebpf_process\":[1],\"format\":\"influx\"}"
    fflush()
}

/^[{]"refused":/ {
    exit 78
}

/^[{]"batch":/ {
    number = count = $0
    sub(/^[{]"batch":/, "", number)
    sub(/,.*/, "", number)
    sub(/.*,"lines":/, "", count)
    sub(/[}]$/, "", count)
    # As a number: texts are compared otherwise.
    count += 0
    for (i = 0; i < count; i++) {
        if ((getline points[i]) <= 0) {
            exit
        }
    }
    for (i = 0; i < count; i++) {
        print points[i] >> "points"
    }
    # Stored first, answered then.
    fflush("points")
    print "{\"batch\":" number ",\"ok\":true}"
    fflush()
}
