// The text of `scripts/cluster-launch.sh --help`; docs/launching.md says more.

export const launchHelp = `scripts/cluster-launch.sh local|ssh [options] -- [flags of \`coordinator start\`]

Starts a coordinator and its workers, two for each pair of towers, and stays until the run is over.

local: everything on this machine
  --cpu          every tower on the CPU (the default where there is no NVIDIA GPU)
  --gpus A,B     tower 0 on GPU A, tower 1 on GPU B (the default where there are GPUs: 0,1, or 0,0 if there is one)
  --threads N    CPU threads of each worker
  --port P       port of the coordinator on 127.0.0.1 (default: a free one)

ssh: the coordinator here, workers on hosts that have this checkout, set up, in the same folder
  --hosts A:0,B:0     tower 0 on GPU 0 of host A, tower 1 on GPU 0 of host B; host:cpu for its CPU
  --bind ADDRESS      tcp://10.0.0.5:5570: this machine as the hosts reach it; port 0 takes a free one
  --keys DIR          keys made by \`coordinator keygen\`; each worker's travels to its host for as long as it runs
  --insecure          no keys: everybody who can reach the address may join and read along
  --folder PATH       the checkout on the hosts (default: this one's path)
  --threads N         CPU threads of each worker on a CPU
  --ssh-config FILE   ssh's configuration (default: yours)

Everything after the -- goes to \`coordinator start\` as it stands: npx coordinator start --help
With --replicas R there, R pairs of workers are started: --gpus takes 2R numbers, a pair's towers side by side.

Examples
  scripts/cluster-launch.sh local -- --network compact --data fashion-mnist --epochs 2
  scripts/cluster-launch.sh local --cpu --threads 1 -- --network tiny --data synthetic --steps 20
  scripts/cluster-launch.sh local --gpus 2,3 --port 7000 -- --config run.yaml
  scripts/cluster-launch.sh ssh --hosts nodeA:0,nodeB:0 --bind tcp://10.0.0.5:5570 --keys keys -- --config run.yaml

Ctrl-C (or SIGTERM) asks every process to stop after the step it is in; a second one, or ten seconds, ends them at once.
The exit code is 0 when all ended well, else that of the process that failed first (or stopped early).
`;
