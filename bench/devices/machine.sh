# Prints what a Linux machine is and in which state, a line of "KEY TEXT" each; what can't be read is left out.
# After "cpuinfo" comes /proc/cpuinfo as it is. Any POSIX shell can run it, busybox's too.

root=${EDGEC_ROOT:-} # of the file system, for tests

say() { [ -z "$2" ] || echo "$1 $2"; }

# The largest of the numbers in several files: of cores that differ, the one that is warmest or fastest.
most() { cat "$@" 2>/dev/null | sort -n | tail -n 1; }

describe() {
    say machine "$(uname -m)"
    say system "$(uname -sr)"
    say board "$(tr -d '\000' <"$root/proc/device-tree/model")"
    say load_average "$(cut -d ' ' -f 1 <"$root/proc/loadavg")"
    say governor "$(cat "$root"/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor | sort -u | tr '\n' ' ')"
    say frequency "$(most "$root"/sys/devices/system/cpu/cpu*/cpufreq/scaling_cur_freq)"
    say max_frequency "$(most "$root"/sys/devices/system/cpu/cpu*/cpufreq/scaling_max_freq)"
    say temperature "$(most "$root"/sys/class/thermal/thermal_zone*/temp)"
    # Raspberry Pi's firmware: bits of why it slows the clock, in hexadecimal.
    say throttled "$(vcgencmd get_throttled || cat "$root/sys/devices/platform/soc/soc:firmware/get_throttled")"
    # How often x86 did so, by core.
    say throttle_count "$(most "$root"/sys/devices/system/cpu/cpu*/thermal_throttle/*_throttle_count)"
    echo cpuinfo
    cat "$root/proc/cpuinfo"
} 2>/dev/null
