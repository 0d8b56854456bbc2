# Appends name and value of each sample to the file "values" in its directory. Without a JSON parser it relies on what
# docs/exec-protocol.md promises: the order of keys, no blanks, and that no quote inside a text is a bare one.
# Run as: awk -W interactive -f values.awk (mawk reads whole buffers otherwise; others ignore it).
BEGIN {
    print "{\"ebpf_process\":[1],\"format\":\"samples\",\"integers\":\"text\"}"
    fflush()
}

/^[{]"refused":/ {
    exit 78
}

/^[{]"batch":/ {
    number = $0
    sub(/^[{]"batch":/, "", number)
    sub(/,.*/, "", number)
    count = split($0, sample, /[{]"name":"/)
    for (i = 2; i <= count; i++) {
        name = value = sample[i]
        sub(/".*/, "", name)
        sub(/.*,"value":/, "", value)
        sub(/[}](,|[]][}])$/, "", value)
        print name, value >> "values"
    }
    # Stored first, answered then.
    fflush("values")
    print "{\"batch\":" number ",\"ok\":true}"
    fflush()
}
