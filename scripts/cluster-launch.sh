#!/usr/bin/env bash
# Starts a whole run: one `coordinator start` and a `worker` for each tower, each a command of its own.
# Their output comes out line by line, marked with who says it; one Ctrl-C stops all; the exit code is that of the first that
# failed. Every process leads a session of its own (setsid), so that a Ctrl-C in the terminal reaches them once, through us.
set -euo pipefail

readonly last_words_seconds=2 # after a failure: time for the others to say what they lost
readonly farewell_seconds=15  # after the coordinator's good end: time for the workers to end as well
readonly stop_seconds=10      # after SIGTERM: time to finish the step and write the state

usage() {
  cat <<'HELP'
scripts/cluster-launch.sh local [options] -- [flags of `coordinator start`]

Starts a coordinator and two workers on this machine, as three commands, and stays until the run is over.

Options, before the --
  --cpu          both towers on the CPU (the default where there is no NVIDIA GPU)
  --gpus A,B     tower 0 on GPU A, tower 1 on GPU B (the default where there are GPUs: 0,1, or 0,0 if there is one)
  --threads N    CPU threads of each worker
  --port P       port of the coordinator on 127.0.0.1 (default: a free one)
  --help         this text

Everything after the -- goes to `coordinator start` as it stands: npx coordinator start --help

Examples
  scripts/cluster-launch.sh local -- --network compact --data fashion-mnist --epochs 2
  scripts/cluster-launch.sh local --cpu --threads 1 -- --network tiny --data synthetic --steps 20
  scripts/cluster-launch.sh local --gpus 2,3 --port 7000 -- --config run.yaml

Ctrl-C (or SIGTERM) asks all three to stop after the step they are in; a second one, or ten seconds, ends them at once.
The exit code is 0 when all three ended well, else that of the first that failed (or stopped early).
HELP
}

say() { printf 'cluster-launch: %s\n' "$*" >&2; }

refuse() {
  say "$*"
  exit 2
}

main() {
  case "${1-}" in
    local) launch_local "${@:2}" ;;
    ssh | slurm) refuse "'$1' does not exist yet: only 'local' does, which starts everything on this machine" ;;
    -h | --help) usage ;;
    '') refuse "say where to run: scripts/cluster-launch.sh local -- --network compact (--help shows more)" ;;
    *) refuse "'$1' is not a place to run: only 'local' exists (--help shows examples)" ;;
  esac
}

launch_local() {
  local gpus='' threads='' port=''
  while (($#)); do
    case "$1" in
      --cpu) gpus=none ;;
      --gpus)
        gpus=$(value_of "$@")
        shift
        ;;
      --threads)
        threads=$(value_of "$@")
        shift
        ;;
      --port)
        port=$(value_of "$@")
        shift
        ;;
      -h | --help)
        usage
        exit
        ;;
      --)
        shift
        break
        ;;
      *) refuse "'$1' is not an option of the launcher; flags of the coordinator come after a -- (--help shows examples)" ;;
    esac
    shift
  done
  [[ $threads =~ ^([1-9][0-9]*)?$ ]] || refuse "--threads is a number of threads such as 2, not '$threads'"
  [[ $port =~ ^([1-9][0-9]*)?$ ]] || refuse "--port is a port such as 7000, not '$port'"
  [[ ${gpus:=$(default_gpus)} =~ ^(none|[0-9]+,[0-9]+)$ ]] || refuse "--gpus is two GPU numbers such as 0,1, not '$gpus'"
  local flag
  for flag in "$@"; do
    [[ $flag != --bind* && $flag != --local* ]] || refuse "${flag%%=*} is the launcher's to choose; give --port before the --"
  done

  local root
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  PATH="$root/node_modules/.bin:$PATH"
  [[ -x $root/node_modules/.bin/coordinator && -x $root/node_modules/.bin/worker ]] ||
    refuse "the commands are not built yet: npm run setup"

  local address="tcp://127.0.0.1:${port:=$(free_port)}" devices=(--cpu --cpu)
  [[ $gpus == none ]] || devices=("--gpu=${gpus%,*}" "--gpu=${gpus#*,}")

  trap 'request_stop' INT TERM HUP
  trap 'sweep' EXIT
  start 'coordinator' coordinator start --bind "$address" "$@"
  start 'tower 0' worker --coordinator "$address" --tower 0 "${devices[0]}" ${threads:+--threads "$threads"}
  start 'tower 1' worker --coordinator "$address" --tower 1 "${devices[1]}" ${threads:+--threads "$threads"}
  start_guard
  wait_for_all
}

value_of() {
  [[ -n ${2-} && $2 != --* ]] || refuse "$1 needs a value (--help shows examples)"
  printf '%s' "$2"
}

default_gpus() {
  local count
  count=$(nvidia-smi --list-gpus 2>/dev/null | wc -l) || count=0
  case "$count" in
    0) echo none ;;
    1) echo 0,0 ;;
    *) echo 0,1 ;;
  esac
}

free_port() {
  node -e 'const s = require("net").createServer().listen(0, "127.0.0.1", () => { console.log(s.address().port); s.close(); })'
}

# --- processes ---------------------------------------------------------------------------------------------------------

declare -A running=() # process id -> name, of those that have not ended
declare -a started=() # process ids, each also the id of the group it leads
declare -a printers=()
guard='' timer='' timer_means=''
stop_requests=0
first_failure=0

# start NAME COMMAND...: runs the command in a session of its own, each line of its output behind its name.
start() {
  local name=$1 output
  shift
  exec {output}> >(trap '' INT TERM HUP && exec sed -u "s/^/$name | /")
  printers+=($!)
  setsid "$@" </dev/null >&"$output" 2>&1 &
  running[$!]=$name
  started+=($!)
  exec {output}>&-
}

# Ends the processes if this launcher is killed in a way that it cannot see itself.
start_guard() {
  # shellcheck disable=SC2016 # The inner bash expands these.
  setsid bash -c '
    tail --pid="$1" -f /dev/null
    for pid in "${@:3}"; do kill -TERM "$pid"; done
    sleep "$2"
    for pid in "${@:3}"; do kill -KILL -- "-$pid"; done
  ' guard $$ "$stop_seconds" "${started[@]}" </dev/null >/dev/null 2>&1 &
  guard=$!
}

wait_for_all() {
  local finished code
  while ((${#running[@]})); do
    code=0
    wait -n -p finished "${!running[@]}" ${timer:+"$timer"} 2>/dev/null || code=$? # Silent: we name the ended ourselves.
    if [[ -z ${finished-} ]]; then
      continue # A signal came, and its trap has run.
    elif [[ $finished == "$timer" ]]; then
      timer=''
      "$timer_means"
    else
      note_end "$finished" "$code"
    fi
  done
  exit "$first_failure"
}

# note_end PID CODE: what the end of one process means for the others.
note_end() {
  local name=${running[$1]} code=$2
  unset "running[$1]"
  if ((code != 0 && first_failure == 0)); then
    first_failure=$code
    if ((stop_requests)); then
      say "$name stopped with exit code $code"
    else
      say "$name failed with exit code $code; stopping the others"
      after "$last_words_seconds" stop_all
    fi
  elif [[ $name == coordinator ]] && ((code == 0 && first_failure == 0 && !stop_requests)); then
    after "$farewell_seconds" give_up_on_workers
  fi
}

request_stop() {
  stop_requests=$((stop_requests + 1))
  if ((stop_requests == 1)); then
    say 'stopping: every process finishes its step (once more to end them at once)'
    stop_all
  else
    kill_all
  fi
}

stop_all() {
  local pid
  for pid in "${!running[@]}"; do kill -TERM "$pid" 2>/dev/null || true; done
  after "$stop_seconds" kill_all
}

give_up_on_workers() {
  say "the coordinator has ended and still running are: ${running[*]}"
  first_failure=1
  stop_all
}

kill_all() {
  local pid
  for pid in "${!running[@]}"; do
    say "${running[$pid]} has not stopped; it is killed"
    kill -KILL -- "-$pid" 2>/dev/null || true
  done
}

# after SECONDS FUNCTION: calls the function then, unless all have ended or another timer has been set.
after() {
  cancel_timer
  setsid sleep "$1" &
  timer=$! timer_means=$2
}

cancel_timer() {
  [[ -z $timer ]] || kill "$timer" 2>/dev/null || true
  timer=''
}

# The last act, however we end: nothing of ours stays behind, and everything that was said is printed.
sweep() {
  local pid
  cancel_timer
  [[ -z $guard ]] || kill -KILL -- "-$guard" 2>/dev/null || true
  for pid in "${started[@]}"; do kill -KILL -- "-$pid" 2>/dev/null || true; done
  for pid in "${printers[@]}"; do wait "$pid" || true; done
}

((BASH_VERSINFO[0] * 100 + BASH_VERSINFO[1] >= 501)) || refuse "bash $BASH_VERSION is too old: 5.1 or later is needed"
main "$@"
