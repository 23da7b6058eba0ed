"""How each class of trouble is worded in logs: by databases, runtimes, frameworks and operating systems.

Every pattern is a piece of a message that a program writes of its own accord. They are tried in the order of the
classes below: the first class that fits a line is what the line says, so what is specific stands before what is not.
"""

from __future__ import annotations

from quarterdeck.agents.remediation.models import Kind

WORDINGS: tuple[tuple[Kind, float, tuple[str, ...]], ...] = (
    ("disk_full", 0.95, (
        r"no space left on (?:the )?(?:device|disk|drive|volume)", r"\bENOSPC\b", r"\berrno[ :=]*28\b", r"os error 28\b",
        r"\bdisk (?:is )?(?:almost |nearly )?full\b", r"\bdatabase or disk is full", r"\bdisk quota exceeded", r"\bEDQUOT\b",
        r"not enough (?:free )?(?:disk )?space on", r"not enough (?:free )?disk space", r"insufficient (?:free )?disk space",
        r"(?:ran |running |is )?out of disk space", r"disk space (?:is )?exhausted", r"\b(?:filesystem|file system|volume|partition) (?:\S+ )?is full",
        r"flood[- ]stage disk watermark", r"high disk watermark", r"low on resource: ephemeral-storage",
        r"unable to persist (?:on|to) disk", r"\bMISCONF\b.{0,80}(?:snapshot|persist)", r"could not extend file",
        r"OutOfDiskSpace", r"SQLITE_FULL", r"table '\S+' is full", r"ORA-01653|ORA-01654|ORA-19809", r"no usable temporary directory",
        r"emptydir volume .{0,60}exceeds the limit", r"ephemeral[- ](?:local )?storage usage exceeds", r"diskpressure\b.{0,40}true",
        r"log\.dirs? .{0,40}(?:have |has )failed", r"there is not enough space on the disk",
    )),
    ("certificate_expired", 0.95, (
        r"certificate (?:\S+ ){0,4}(?:has |have |is |was |already )?expired", r"expired (?:ssl |tls |x\.?509 |server |client |peer |leaf )?cert", r"cert(?:ificate)?[ _-]+has[ _-]+expired",
        r"certificate_expired", r"certificateexpired", r"x509: certificate has expired or is not yet valid", r"\bnotafter: ?\w",
        r"ssl_error_expired_cert", r"sec_error_expired_certificate", r"err_cert_date_invalid", r"alert (?:number )?45\b",
        r"cert(?:ificate)? (?:is )?(?:no longer|not) (?:yet )?valid (?:any ?more|after|since|\()", r"validity check failed",
        r"\bcert(?:s|ificates?)? (?:\S+ ){0,3}expired (?:on|at|since|\d)", r"tls: .{0,40}expired", r"invalidcertificate\(expired\)",
        r"ssl certificate problem: certificate has expired", r"remotecertificatenotvalid|notTimeValid",
    )),
    ("port_in_use", 0.95, (
        r"address (?:is )?already in use", r"\bEADDRINUSE\b", r"errno[ :=]*98\b", r"os error 98\b", r"\bport (?:number )?:?\d{2,5} (?:is |was )?(?:already )?(?:in use|taken|occupied|allocated|bound)",
        r"port (?:is |was )?already (?:in use|allocated|taken|bound)", r"only one usage of each socket address", r"\bWSAEADDRINUSE\b|\b10048\b.{0,60}socket",
        r"bind\(\) to \S+ failed \(98", r"failed to bind (?:to )?(?:\S*/)?\S*:\d{2,5}(?!.{0,60}permission)", r"could not bind to (?:address|port)(?!.{0,60}permission)",
        r"address localhost:\d+ is already", r"another (?:process|instance|program) is (?:already )?(?:listening|using (?:the |this )?port|running on port)",
        r"java\.net\.BindException(?!.{0,60}permission)", r"cannot (?:listen|bind) on port \d+", r"something is already running on port",
    )),
    ("database_locked", 0.93, (
        r"database (?:\S+ )?(?:is|was) locked", r"database (?:file|table|schema)(?: \S+)? is locked", r"table is locked", r"\bSQLITE_(?:BUSY|LOCKED)\b", r"database is busy",
        r"lock wait timeout exceeded", r"could not obtain lock on (?:row|relation|table)", r"due to lock timeout", r"\bORA-00054\b",
        r"resource busy and acquire with nowait", r"could not acquire change ?log lock", r"waiting for changelog lock",
        r"database may be already in use", r"database (?:is )?(?:already )?(?:locked|in use) by another", r"unable to (?:open|lock) (?:the )?database.{0,60}lock",
        r"/LOCK: resource temporarily unavailable", r"lock file .{0,120}already exists", r"DBPathInUse|another mongod instance is already running",
        r"lock request time ?out period exceeded", r"\b55P03\b", r"unable to acquire .{0,40}lock within", r"db(?:\.lck)? .{0,30}held by another process",
        r"DatabaseError: .{0,30}locked", r"metadata lock", r"could not (?:acquire|get|obtain) (?:an? |the )?(?:exclusive |write |advisory )?lock on (?:the )?(?:database|db|table)",
    )),
    ("deadlock", 0.93, (
        r"\bdeadlock(?:ed|s)?\b(?! (?:detector|detection) (?:enabled|started|disabled))", r"\bORA-00060\b", r"\b40P01\b", r"goroutines are asleep",
        r"blocked for (?:more than )?\d[\d.,]* ?(?:s|sec|seconds|ms|m|min|minutes)?\b.{0,60}(?:lock|mutex|monitor|semaphore|latch|waiting)", r"blocked for more than \d+ seconds",
        r"(?:thread|task|worker|event ?loop|goroutine)\S* (?:\S+ ){0,4}(?:has been|is|was|been) blocked for", r"held by .{0,60}which waits for",
        r"waiting (?:to lock|for (?:monitor entry|lock|mutex)).{0,120}held by", r"circular wait", r"lock order(?:ing)? (?:inversion|violation|reversal)", r"hung task", r"watchdog: .{0,60}(?:stuck|soft lockup|hung)",
        r"(?:thread|worker|process|event loop) (?:\S+ ){0,3}(?:appears|seems|is) (?:to be )?(?:hung|stuck|wedged|starved)", r"lock (?:held|not released) for (?:more than )?\d", r"thread starvation",
    )),
    ("too_many_connections", 0.93, (
        r"too many (?:clients|connections|db connections|open connections|sessions|active connections|concurrent connections)", r"remaining connection slots are reserved", r"queuepool limit",
        r"pool (?:\S+ ){0,4}(?:is |was |has been )?(?:exhausted|depleted|full|overflow)", r"pool exhaust", r"exhausted (?:the )?connection pool", r"connection is not available, request timed out",
        r"max(?:imum)? number of (?:clients|connections|sessions) (?:\S+ )?(?:reached|exceeded)", r"max_?(?:user_)?(?:client_)?conn(?:ection)?s?\b.{0,40}(?:exceed|reach|limit|\(|resource)", r"connection limit (?:exceeded|reached|for)",
        r"timeout acquiring a connection", r"pool is probably full", r"connectionacquiretimeout", r"resourcerequest timed out", r"no more connections allowed",
        r"already has more than '?max_user_connections", r"\bORA-(?:00018|00020|12516|12519|12520)\b", r"timeout waiting for idle object", r"poolexhausted|pooltimeout|PoolError|WaitQueueFull",
        r"waiting for (?:a |an available )?(?:free |idle )?connection from (?:the )?pool", r"(?:waiting|timed? ?out|timeout|unable|failed|cannot|could not) (?:\S+ ){0,4}(?:for|to (?:get|acquire|obtain|check ?out|borrow)) (?:a |an )?(?:\S+ )?connection from (?:the )?(?:\S+ )?pool",
        r"unable to acquire jdbc connection", r"(?:connections?|sessions?) (?:limit|maximum) (?:of \d+ )?(?:was |has been |is )?(?:reached|exceeded)", r"\b53300\b", r"no (?:free|available|idle) connections? (?:in|available|left)",
        r"connection checked out .{0,30}timed out", r"all (?:\d+ )?(?:database |db |pool(?:ed)? )?connections (?:are )?(?:in use|busy|used)", r"too many open files", r"\bEMFILE\b|\bENFILE\b",
    )),
    ("oom_killed", 0.9, (
        r"java\.lang\.OutOfMemoryError", r"javascript heap out of memory", r"reached heap limit", r"cannot allocate memory", r"\bENOMEM\b", r"\bMemoryError\b", r"runtime: out of memory",
        r"out of memory: kill", r"\boom[- ]?kill", r"\bOOMKilled\b", r"std::bad_alloc", r"perhaps out of memory", r"allowed memory size of \d+ bytes exhausted", r"OOM command not allowed",
        r"memory cgroup out of memory", r"System\.OutOfMemoryException", r"gc overhead limit exceeded", r"\bmetaspace\b.{0,20}out", r"failed to allocate (?:memory|\d+ bytes)", r"memory allocation of \d+ bytes failed", r"\bout of memory\b",
    )),
    ("dns_failure", 0.92, (
        r"temporary failure in name resolution", r"name or service not known", r"getaddrinfo (?:enotfound|eai_\w+|failed|error)", r"\bENOTFOUND\b", r"\bEAI_(?:AGAIN|NONAME|FAIL|NODATA)\b", r"no such host",
        r"(?:could not|couldn't|cannot|can't|unable to|failed to) (?:be )?resolve (?!(?:placeholder|reference|dependenc|import|module|symbol|version|bean|artifact|package|variable|path|conflict|schema|type|class|view|template|all))",
        r"unknownhostexception", r"name[- ]resolution (?:\S+ )?(?:fail|error|timed? ?out|timeout)", r"nodename nor servname provided", r"\bNXDOMAIN\b", r"\bSERVFAIL\b", r"could not translate host name",
        r"dns (?:resolution|lookup|query|request|server|resolver)? ?(?:\S+ ){0,3}(?:fail|error|timed? ?out|timeout|unreachable|refused)", r"server misbehaving", r"no address associated with", r"host not found", r"unknown (?:mysql server )?host\b",
        r"name does not resolve", r"\bgaierror\b", r"no resolvable bootstrap urls", r"dial (?:tcp|udp):? lookup", r"lookup \S+ on \S+:53", r"queryA{1,4} e\w+", r"no dns entries? (?:found )?for", r"nameserver .{0,40}(?:timed? ?out|unreachable|not respond)",
        r"errors? resolving (?:host|name|address|dns)", r"hostname (?:\S+ )?(?:could not be|cannot be|not) (?:resolved|found)",
    )),
    ("permission_denied", 0.9, (
        r"permission (?:was )?denied", r"\bEACCES\b", r"\bEPERM\b", r"errno[ :=]*13\b", r"os error 13\b", r"permissionerror", r"accessdenied", r"access (?:to .{0,120} )?(?:is |was )?denied", r"operation not permitted",
        r"read-only file ?system", r"\bEROFS\b", r"password authentication failed", r"authentication failed for user", r"\bWRONGPASS\b|\bNOAUTH\b", r"insufficient privileges?", r"not authorized (?:on|to (?:perform|access|execute))",
        r"unauthorizedaccessexception", r"(?:topic|group|cluster)authorizationexception", r"saslauthenticationexception", r"cannot (?:list|get|create|watch|update|patch|delete) resource", r"is not writable", r"not writeable", r"lacks? (?:the )?(?:necessary |required )?permissions?",
        r"no permission to", r"you (?:do not|don't) have permission",
    )),
    ("bad_configuration", 0.85, (
        r"(?:invalid|bad|malformed|broken|illegal|incorrect|wrong|missing|incomplete) (?:\S+ )?(?:config\b|configuration|settings?\b|environment variable|env var|config(?:uration)? (?:file|value|option))", r"config(?:uration)? (?:\S+ ){0,3}(?:is |was )?(?:invalid|missing|not found|not valid|incomplete|malformed)",
        r"config(?:uration)? (?:error|problem|failure)", r"configurationerror|configexception|configurationexception|improperlyconfigured|configerror|invalidconfig", r"(?:error|failed|failure|unable|cannot|could not) (?:\S+ ){0,3}(?:load|read|pars|decod|open)\w* (?:\S+ ){0,4}(?:config|settings|\S+\.(?:ya?ml|toml|ini|conf|properties|env)\b)",
        r"(?:environment variable|env var|env|variable|setting|option|property|parameter|secret)s? [\"'`]?[\w.\-]+[\"'`]? (?:(?:is|was|are|must) )?(?:not |be )?(?:set|defined|required|missing|provided|unset|empty|found|non-empty)\b", r"(?:missing|required|undefined|unset|no) (?:\S+ )?(?:environment variable|env var|env|setting|configuration key|config key|property|option)s?\b",
        r"keyerror: '[A-Z][A-Z0-9_]{2,}'", r"validation errors? for \w*(?:settings|config)", r"could not resolve placeholder", r"failed to bind properties", r"unknown (?:field|option|flag|directive|unit|key|property|configuration|setting)\b", r"unrecogni[sz]ed (?:\S+ )?(?:option|argument|flag|field|configuration|parameter|directive|key)",
        r"flag provided but not defined", r"no such file or directory.{0,80}\.(?:ya?ml|toml|json|ini|conf|cfg|properties|env|pem|key|crt)\b", r"\.(?:ya?ml|toml|ini|conf|cfg|properties)['\"]?:? .{0,40}no such file", r"fatal config file error", r"bad directive|\[emerg\]", r"invalid (?:value|duration|port|url|uri|dsn|connection string|log level|number|integer|boolean|argument|option) (?:\S+ ){0,4}(?:for|in|of|:)",
        r"err_invalid_url|invalid_dsn|invaliddsn", r"must (?:not be|be) (?:\S+ )?(?:set|empty|provided|configured|specified)", r"secret_key setting", r"(?:role|database|relation|table|schema) \"?\S+\"? does not exist", r"unknown database", r"no such table", r"time: (?:unknown unit|invalid duration)",
        r"application failed to start", r"unsupported (?:config|option|value|version)", r"yaml: |toml: |tomldecodeerror|yaml\.\w+\.\w*error|jsondecodeerror.{0,60}config", r"could not parse (?:\S+ ){0,3}(?:as |from )?(?:env|config|dsn|url)", r"is not a valid (?:\S+ )?(?:url|port|integer|number|duration|boolean|log level|dsn|uri)",
    )),
    ("dependency_down", 0.85, (
        r"connection (?:was |is |has been )?refused", r"\bECONNREFUSED\b", r"errno[ :=]*111\b", r"os error 111\b", r"connectexception", r"connectionrefused", r"no route to host", r"\b(?:EHOSTUNREACH|ENETUNREACH)\b", r"host is unreachable|network is unreachable",
        r"(?:could not|couldn't|cannot|can't|unable to|failed to|failure to|error) (?:re)?connect(?:ing)?\b(?: to)?", r"can't connect to (?:local )?\S+ server", r"no connection could be made", r"is the server running", r"no healthy upstream", r"no live upstreams", r"upstream connect error",
        r"connection to node -?\d+ .{0,80}could not be established", r"broker may not be available", r"no ?brokers? ?available", r"server ?selection ?(?:timeout|error)", r"no server chosen", r"communications link failure", r"redisconnection(?:exception|failure)", r"redis(?:\.exceptions)?\.connectionerror", r"amqpconnect",
        r"(?:is|was|became) (?:currently )?(?:not reachable|unreachable|unavailable|not available|offline)\b", r"\b(?:502 bad gateway|503 service unavailable)", r"code ?= ?unavailable|statuscode\.unavailable|\bUNAVAILABLE: ", r"database system is (?:starting up|shutting down|in recovery)", r"connection (?:to \S+ )?(?:was )?(?:closed|terminated|reset|lost|dropped|aborted)(?: (?:unexpectedly|by))?", r"\bECONNRESET\b|\bEPIPE\b|broken pipe",
        r"lost connection to", r"server (?:has gone away|closed the connection)", r"upstream (?:\S+ ){0,2}(?:failed|unavailable|is down)", r"connect(?:ion)? (?:to \S+ )?failed", r"failed to (?:reach|contact|dial|call) ", r"max retries exceeded with url", r"dial tcp \S+: connect", r"newconnectionerror|nohttpresponse|connectionerror\b",
        r"circuit ?breaker .{0,60}(?:open|tripped)", r"no (?:available|ready|healthy) (?:endpoint|instance|backend|server|replica|broker|host)s?\b",
    )),
    ("timeouts", 0.8, (
        r"timed[ -]?out", r"time[ -]?out(?:error|exception)?\b(?!\s*[=:]\s*\d)(?! (?:set|of|is set|configured))", r"\b(?:ETIMEDOUT|ESOCKETTIMEDOUT|ECONNABORTED)\b", r"deadline[ _]?exceeded", r"(?:socket|read|write|connect|request|query|statement|gateway|response|pool|idle|lock)timeout(?:error|exception)", r"\b504\b.{0,20}gateway", r"worker timeout", r"client\.timeout exceeded", r"errno[ :=]*110\b",
        r"took too long", r"no (?:answer|response|reply) (?:was received )?(?:within|in|after|for) \d", r"did not (?:respond|answer|complete|finish) (?:\S+ )?(?:within|in|after)", r"(?:request|query|operation|call|statement|transaction) (?:was )?(?:aborted|cancell?ed) after \d",
    )),
    ("traffic_surge", 0.7, (
        r"too many requests", r"rate ?limit(?:ed| exceeded| reached)", r"server (?:is )?(?:overloaded|at capacity|too busy|busy)", r"(?:queue|backlog|buffer|mailbox) (?:\S+ ){0,3}(?:is )?(?:full|overflow)", r"rejectedexecution", r"worker_connections are not enough", r"load shed", r"overload(?:ed)?\b", r"at max(?:imum)? (?:capacity|concurrency)", r"reached (?:max_children|maxrequestworkers) setting", r"thread pool is (?:full|exhausted)", r"listen queue of socket .{0,40}full",
    )),
    ("crash_loop", 0.5, (
        r"^panic: ", r"\bpanic(?:ked at|: )", r"traceback \(most recent call last\)", r"exception in thread", r"segmentation fault", r"\bSIG(?:SEGV|ABRT|ILL|BUS)\b", r"fatal error: ", r"\b(?:unhandled|uncaught)\b", r"nullpointerexception", r"core dumped", r"modulenotfounderror|importerror: ", r"cannot find module", r"classnotfoundexception|noclassdeffounderror|nosuchmethoderror", r"exec format error", r"error while loading shared libraries", r"undefined symbol", r"nil pointer dereference|index out of range", r"cannot read propert(?:y|ies) of (?:undefined|null)", r"assertion(?:error| failed)", r"(?:Type|Reference|Attribute|Value|Name|Syntax|Index|Key|Runtime|ZeroDivision)Error: ", r"stack ?overflow", r"illegalstateexception|illegalargumentexception", r"giving up\b", r"\baborting\b", r"exited? (?:unexpectedly|with (?:code|status) [1-9])", r"\bfatal\b", r"beancreationexception", r"migration (?:\S+ )?failed", r"checksum mismatch|corrupt",
    )),
)  # fmt: skip
"""(class, how sure a line of it makes, patterns)."""
