# ruff: noqa: E501
"""A small hand-made trace of requests and job list in every format, by the name of its file."""

from __future__ import annotations

import json


def _lines(*rows: dict) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


REQUESTS = {
    "plain.csv": """arrival_s,prompt_tokens,output_tokens,max_tokens,session,priority,prefix_ids,prefix_block_tokens
0.5,64,40,50,x,1,10 11 12,32
0.75,64,1,8,,0.5,10 20,32
1.5,70,9,9,x,0,10 11,32
""",
    "azure.csv": """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2024-11-16 18:15:50.9951690+00:00,396,109
2024-11-16 18:15:51Z,879,55
""",
    "burst.csv": """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
100,a-1,3,GPT-4,9,4,13,Conversation log
101,b-2,2,GPT-4,9,0,9,API log
102,a-1,1,ChatGPT,12,7,19,Conversation log
""",
    "mooncake.jsonl": _lines(
        dict(timestamp=0, input_length=1100, output_length=5, hash_ids=[1, 2, 3]),
        dict(timestamp=3000, input_length=1024, output_length=50, hash_ids=[1, 2]),
        dict(timestamp=3000, input_length=512, output_length=1, hash_ids=[7]),
    ),
    "bailian.jsonl": _lines(
        *(
            dict(chat_id=chat, parent_chat_id=parent, timestamp=stamp, input_length=40)
            | dict(output_length=7, type="text", turn=1, hash_ids=[7, 8, chat])
            for chat, parent, stamp in ((3, -1, 0.0), (5, 3, 1.5), (6, 5, 2.0), (9, 4, 3.5))
        )
    ),
}
"""Requests."""

JOBS = {
    "plain_jobs.csv": """arrival_s,gpus,duration_s,profile,tenant,priority,pool,estimate_s
10,4,100,ResNet-50,a,1,0,200
70,1,5.5,,b,0.5,-1,
90,2,60,VGG-16,a,0,-1,60
""",
    "philly.csv": """submit_time,duration_s,num_gpus,gpu_seconds,vc
2017-10-03 00:01:00,5.5,1,5.5,b
2017-10-03 00:00:00,100.0,4,400.0,a
""",
    "helios.csv": """job_id,user,vc,gpu_num,cpu_num,node_num,state,submit_time,start_time,end_time,duration,queue
1,u1,a,4,16,1,COMPLETED,2020-06-03 08:00:00,2020-06-03 08:00:05,2020-06-03 08:01:45,100,5
2,u1,a,0,16,1,COMPLETED,2020/6/3 8:00:30,2020-06-03 08:00:30,2020-06-03 08:01:30,60,0
3,u2,b,1,4,1,FAILED,2020-06-03 08:01:00,2020-06-03 08:01:00,2020-06-03 08:01:05.5,5.5,0
""",
    "acme.csv": """job_id,user,node_num,gpu_num,cpu_num,type,state,submit_time,start_time,end_time,duration,queue
x,a,1,4,64,Eval,COMPLETED,2023-05-17 11:00:00+00:00,2023-05-17 11:00:10+00:00,2023-05-17 11:01:50+00:00,110,10
y,a,0,0,8,CPU,COMPLETED,2023-05-17 11:00:30+00:00,2023-05-17 11:00:30+00:00,2023-05-17 11:00:40+00:00,10,0
z,b,1,1,8,Debug,FAILED,2023-05-17 11:01:00+00:00,2023-05-17 11:01:00+00:00,2023-05-17 11:01:06+00:00,6,0
""",
    "kalos.csv": """job_id,submit_time,gpu_num,duration_s,queue_s
a,2023-05-17 11:00:00+00:00,8,100.0,20.0
b,2023-05-17 12:00:00+00:00,16,3600.0,5.0
""",
    "pai.csv": """job_name,task_name,inst_num,status,start_time,end_time,plan_cpu,plan_mem,plan_gpu,gpu_type
a,worker,3.0,Terminated,1000.0,1100.0,600.0,29.3,100.0,V100
a,evaluator,1.0,Terminated,1005.0,1080.0,600.0,29.3,50.0,MISC
b,tensorflow,1.0,Failed,1060.0,1065.5,600.0,29.3,25.0,T4
""",
    "pai_bare.csv": """0d2e,tensorflow,1.0,Terminated,1673252.0,1673335.0,600.0,29.296875,50.0,MISC
b8b0,worker,50.0,Failed,2074612.0,2074719.0,600.0,29.296875,25.0,T4
b8b1,ps,2.0,Running,2074612.0,,600.0,29.296875,,
""",
    "openb.csv": """name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,pod_phase,creation_time,deletion_time,scheduled_time
p0,8000,1024,4,1000,,LS,Succeeded,500,605,505.0
p2,8000,1024,1,460,T4|P100,BE,Failed,560,567.5,562.0
p3,8000,1024,1,1000,,BE,Pending,570,9000,
""",
    "spot.csv": """job_name,organization,gpu_model,cpu_request,gpu_request,worker_num,submit_time,duration,job_type
2,13,A10,20,2,2,100,100,HP
3,57,A100-SXM4-80GB,15,0.5,1,160,5.5,Spot
""",
    "jobs.swf": """; Version: 2
1 100 -1 100 4 -1 -1 -1 300 -1 1 7 -1 -1 0 -1 -1 -1
2 130 -1 -1 4 -1 -1 4 -1 -1 5 7 -1 -1 0 -1 -1 -1
4 160 -1 5.5 -1 -1 -1 1 -1 -1 1 9 -1 -1 0 -1 -1 -1
""",
    "philly_log.json": """[{"status":"Pass","vc":"ee9e8c","jobid":"a_38","attempts":[{"start_time":"2017-10-07 01:11:13","end_time":"2017-10-07 01:11:27","detail":[{"ip":"m403","gpus":["gpu1","gpu3"]}]}],"submitted_time":"2017-10-07 01:11:03","user":"3b9e5c"},
{"status":"Killed","vc":"ee9e8c","jobid":"a_39","attempts":[],"submitted_time":"2017-10-07 01:12:03","user":"3b9e5c"},
{"status":"Failed","vc":"0e4a51","jobid":"a_40","attempts":[{"start_time":"2017-10-07 02:11:13","end_time":"None","detail":[{"ip":"m404","gpus":["gpu0"]}]}],"submitted_time":"2017-10-07 01:30:03","user":"3b9e5d"}]
""",
    "sacct.csv": """JobID|Submit|Start|End|ElapsedRaw|AllocTRES|State|Partition|User|Timelimit
101|2024-05-01T10:00:00|2024-05-01T10:00:05|2024-05-01T12:00:05|7200|billing=8,cpu=64,gres/gpu=8,mem=500G,node=1|COMPLETED|gpu|alice|1-00:00:00
101.batch|2024-05-01T10:00:00|2024-05-01T10:00:05|2024-05-01T12:00:05|7200|cpu=64,gres/gpu=8,mem=500G,node=1|COMPLETED|||
102|2024-05-01T10:01:00|Unknown|Unknown|0||CANCELLED by 1001|gpu|bob|UNLIMITED
103|2024-05-01T10:02:00|2024-05-01T10:02:05|2024-05-01T10:12:05|600|cpu=4,gres/gpu:h100=2,gres/gpu=2,mem=5G|TIMEOUT|gpu|bob|10:00
""",
    "elasticflow.csv": """job_id,submit_time,real_iteration,model_name,ddl,batch_size,num_gpu,real_duration,duration,iteration
0,0,1282877,vgg16,771220,256,1,976570,976570,1282877
1,219316,26446831,vgg16,2065619,64,4,1792395,1792395,26446831
""",
    "shockwave.tsv": "LM (batch size 10)\tpython3 main.py --cuda\tlanguage_modeling\t--steps\t1\t134583\t1\tgns\t1\t-1.000000\t1418\t0\n"
    "ResNet-18 (batch size 32)\tpython3 main.py\timage_classification/cifar10\t--num_steps\t1\t143450\t2\taccordion\t1\t-1.000000\t3338\t55\n",
}
"""Job lists."""
