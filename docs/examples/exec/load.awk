# A probe that writes OpenMetrics: the load of the host, and what its kernel has counted since it was started.
# Run as: awk -W interactive -f load.awk (mawk reads whole buffers otherwise; others ignore it).
BEGIN {
    help["ctxt"] = "Switches from one thread to another"
    help["processes"] = "Processes and threads started"
    split("1m 5m 15m", span)
}

# Each line is a question.
{
    print "# TYPE load gauge"
    print "# HELP load Threads that run or wait, on average"
    getline line < "/proc/loadavg"
    close("/proc/loadavg")
    split(line, load)
    for (i = 1; i <= 3; i++) print "load{over=\"" span[i] "\"} " load[i]

    while ((getline line < "/proc/stat") > 0) {
        split(line, stat)
        if (stat[1] in help) {
            print "# TYPE kernel_" stat[1] " counter"
            print "# HELP kernel_" stat[1] " " help[stat[1]]
            print "kernel_" stat[1] "_total " stat[2]
        }
    }
    close("/proc/stat")
    print "# EOF"
    fflush()
}
