# Makes hosts and starts mpirun over them: $1 hosts, $2 ranks of each, $3 a folder for their output or `-`, then the program.
hosts=$1 ranks=$2 folder=$3
shift 3
mkdir -p /run/netns /run/mlu
hostname head
ip link set lo up
ip link add lan type bridge
ip addr add 10.77.0.254/24 dev lan
ip link set lan up
echo 127.0.0.1 localhost >/run/hosts
for i in $(seq "$hosts"); do
    ip netns add "host$i"
    ip link add eth0 netns "host$i" type veth peer name "port$i"
    ip link set "port$i" master lan up
    ip -n "host$i" addr add "10.77.0.$i/24" dev eth0
    ip -n "host$i" link set eth0 up
    ip -n "host$i" link set lo up
    echo "10.77.0.$i host$i" >>/run/hosts
    echo "host$i slots=$ranks" >>/run/hostfile
    if [ "$ranks" -gt 1 ]; then
        /build/release/mlu-server --local "/run/mlu/host$i" --chips "$ranks" --log error &
        while [ ! -e "/run/mlu/host$i" ]; do sleep 0.02; done
    fi
done
mount --bind /run/hosts /etc/hosts

# Stands for ssh: mpirun starts its daemon on a host by it.
cat >/run/remote <<'END'
#!/bin/sh
host=$1
shift
exec nsenter --net="/run/netns/$host" unshare --uts sh -c 'hostname $0; exec sh -c "$*"' "$host" "$@"
END
# Starts a rank on its host.
cat >/run/rank <<'END'
#!/bin/sh
folder=$1
shift
export MLU_TRANSPORT=embedded
[ -e "/run/mlu/$(hostname)" ] && export MLU_TRANSPORT="local:/run/mlu/$(hostname)"
[ "$folder" != - ] && exec >"$folder/rank.$OMPI_COMM_WORLD_RANK" 2>&1
exec "$@"
END
chmod +x /run/remote /run/rank

if [ "$folder" != - ]; then
    (
        while [ ! -e "$folder/cut" ]; do sleep 0.05; done
        ip link set "port$(cat "$folder/cut")" down
    ) &
fi
# Failures are errors at the other ranks, not the end of the job; a host that vanishes is one after ten seconds.
exec mpirun.openmpi --allow-run-as-root --with-ft ulfm \
    --mca mpi_ft_detector true --mca mpi_ft_detector_period 1 --mca mpi_ft_detector_timeout 10 \
    --prtemca plm_ssh_agent /run/remote --hostfile /run/hostfile --map-by slot --bind-to none \
    -n $((hosts * ranks)) /run/rank "$folder" "$@"
