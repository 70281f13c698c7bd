// The text of `scripts/cluster-launch.sh --help`; docs/launching.md says more.

export const launchHelp = `scripts/cluster-launch.sh local|ssh|slurm [options] -- [flags of \`coordinator start\`]

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

slurm: a batch job, in which the coordinator and the workers are tasks; it goes on after its time limit, until the run is done
  --time T            the job's time limit, as sbatch takes it (default: 1:00:00)
  --save-before S     seconds before the limit at which the run is saved and the job queued again (default: 120)
  --nodes N           nodes for the workers (default: as Slurm finds them)
  --cpu, --threads N  towers on CPUs, N threads each (default: a GPU each)
  --sbatch OPTION     one more option of sbatch, such as --partition=gpu; as often as you like
  --address A         where workers reach the coordinator (default: the first node's address; 127.0.0.1 with --nodes 1)
  --keys DIR          keys made by \`coordinator keygen\`, on a file system that all nodes see; or --insecure, as with ssh
  --dry-run           print the batch script and submit nothing

Everything after the -- goes to \`coordinator start\` as it stands: npx coordinator start --help
With --replicas R there, R pairs of workers are started: --gpus takes 2R numbers, a pair's towers side by side.

Examples
  scripts/cluster-launch.sh local -- --network compact --data fashion-mnist --epochs 2
  scripts/cluster-launch.sh local --cpu --threads 1 -- --network tiny --data synthetic --steps 20
  scripts/cluster-launch.sh local --gpus 2,3 --port 7000 -- --config run.yaml
  scripts/cluster-launch.sh ssh --hosts nodeA:0,nodeB:0 --bind tcp://10.0.0.5:5570 --keys keys -- --config run.yaml
  scripts/cluster-launch.sh slurm --time 4:00:00 --sbatch --partition=gpu --keys keys -- --data /data/imagenet

Ctrl-C (or SIGTERM) asks every process to stop after the step it is in; a second one, or ten seconds, ends them at once.
The exit code is 0 when all ended well, else that of the process that failed first (or stopped early).
`;
