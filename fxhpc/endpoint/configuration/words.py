"""The words of other programs' configurations: what they are here, and which mean nothing."""

from __future__ import annotations

#: Only Globus' cloud knows what these are for: named in one warning.
CLOUD_KEYS = frozenset(
    {
        "admins",
        "allowed_functions",
        "amqp_port",
        "audit_log_path",
        "authentication_policy",
        "contact_email",
        "department",
        "description",
        "email",
        "environment",
        "force_mu_allow_same_user",
        "funcx_service_address",
        "high_assurance",
        "identity_mapping_config_path",
        "idle_heartbeats_hard",
        "idle_heartbeats_soft",
        "local_compute_services",
        "mu_child_ep_grace_period_s",
        "multi_user",
        "organization",
        "pam",
        "public",
        "results_ws_uri",
        "subscription_id",
        "user_config_schema_path",
        "user_config_template_path",
        "visible_to",
        "warn_about_url_mismatch",
    }
)

#: What steers parts of Parsl, Globus Compute or funcX that fxhpc has not, or does by itself.
IDLE_KEYS = frozenset(
    {
        "allowed_serializers",
        "block_error_handler",
        "channel",
        "cold_routing_interval",
        "container_image",
        "debug",
        "detach_endpoint",
        "endpoint_id",
        "interchange_launch_cmd",
        "interchange_local",
        "interchange_port_range",
        "launch_cmd",
        "linger",
        "local_executor",
        "log_dir",
        "loopback_address",
        "managed",
        "manager_selector",
        "max_workers_per_block",
        "move_files",
        "passthrough",
        "poll_period",
        "prefetch_capacity",
        "remote_monitoring_radio",
        "result_serializers",
        "run_dir",
        "scheduler_mode",
        "serializer",
        "status_polling_interval",
        "stderr",
        "stdout",
        "storage_access",
        "suppress_failure",
        "task_status_queue",
        "worker_debug",
        "worker_mode",
        "worker_ports",
    }
)

#: Old and other names of keys.
RENAMED = {"max_workers": "max_workers_per_node", "max_processes": "max_workers_per_node"}

#: What people mean who write a key of another batch system.
MEANT = {
    "cores": "cores_per_node",
    "cores_per_node": "cpus_per_node",
    "cpus_per_node": "cores_per_node",
    "gpus": "gpus_per_node",
    "mem": "mem_per_node",
    "memory_per_worker": "mem_per_worker",
    "nodes": "nodes_per_block",
    "partition": "queue",
    "project": "account",
    "queue": "partition",
    "time": "walltime",
    "workers": "max_workers_per_node",
    "workers_per_node": "max_workers_per_node",
}

PROVIDER_NAMES = {
    "slurm": "SlurmProvider",
    "pbs": "PBSProProvider",
    "pbspro": "PBSProProvider",
    "openpbs": "PBSProProvider",
    "torque": "TorqueProvider",
    "local": "LocalProvider",
    "lsf": "LSFProvider",
    "gridengine": "GridEngineProvider",
    "sge": "GridEngineProvider",
    "condor": "CondorProvider",
    "htcondor": "CondorProvider",
    "kubernetes": "KubernetesProvider",
    "k8s": "KubernetesProvider",
    "aws": "AWSProvider",
    "azure": "AzureProvider",
    "googlecloud": "GoogleCloudProvider",
}
LAUNCHER_NAMES = {
    "simple": "SimpleLauncher",
    "singlenode": "SingleNodeLauncher",
    "single": "SingleNodeLauncher",
    "wrapped": "WrappedLauncher",
    "srun": "SrunLauncher",
    "srunmpi": "SrunMPILauncher",
    "mpiexec": "MpiExecLauncher",
    "mpirun": "MpiRunLauncher",
    "aprun": "AprunLauncher",
    "jsrun": "JsrunLauncher",
    "gnuparallel": "GnuParallelLauncher",
}
ENGINE_NAMES = {
    "fxhpc": "FxhpcEngine",
    "globuscompute": "GlobusComputeEngine",
    "globusmpi": "GlobusMPIEngine",
    "threadpool": "ThreadPoolEngine",
    "processpool": "ProcessPoolEngine",
    "highthroughput": "HighThroughputExecutor",
    "htex": "HighThroughputExecutor",
    "mpi": "MPIExecutor",
    "highthroughputexecutor": "HighThroughputExecutor",
    "highthroughputengine": "HighThroughputEngine",
    "mpiexecutor": "MPIExecutor",
}


def full_name(written: str, names: dict[str, str], ending: str) -> str | None:
    """The full name of a provider, launcher or engine, however it is written; None: there is none.

    >>> full_name("slurm", PROVIDER_NAMES, "provider")
    'SlurmProvider'
    """
    word = written.strip().rpartition(".")[2].lower().replace("_", "").replace("-", "")
    return names.get(word) or names.get(word.removesuffix(ending))
