<?php
/**
 * What deploy/demo-backfill.sh does to Redis and through decant. Every value follows from the number of its key and the time BASE, so that
 * whoever reads it knows what it must be.
 *
 *   seed PORT KEYS BASE              writes KEYS values as RedisBagOStuff does, some keys that Kask cannot have, some locks
 *                                    prints: ODD LOCKS
 *   walk PORT                        SCAN, and a pipelined GET and PTTL of each key: as fast as it can be read
 *                                    prints: KEYS SECONDS
 *   load URL KEYS BASE RATE DIR      clients until DIR/stop is there: reads, writes, deletes, each answer held to what it must be
 *                                    prints: OPS WRONG UNANSWERED and p50 and p99 in ms, before DIR/during was there and since
 *   sample PORT URL KEYS COUNT       reads COUNT keys straight from Redis and straight from Kask, and compares what PHP makes of them
 *                                    prints: COMPARED DIFFERENT
 */

const YEAR = 31_536_000;
const PAGE = 1_000;
/** Keys in flight, each of another key. */
const CLIENTS = 8;
/** A key that Kask cannot have, after so many that it can. */
const ODD_EACH = 10_007;
const LOCK_EACH = 50_021;

function say(string $text): void {
	fwrite(STDERR, "demo-backfill.php: $text\n");
}

/** Each in its turn: the seen times of Echo, of all ages, with a TTL and without; Echo's default; counters; lists; texts. */
function name(int $i): string {
	return match ($i % 10) {
		0, 1, 2, 3, 4, 5, 6 => 'global:echo:seen:' . ($i % 2 ? 'alert' : 'message') . ":time:$i",
		7 => "enwiki:demo:count:$i",
		8 => "dewiki:demo:list:$i",
		default => "frwiki:demo:text:$i",
	};
}

function age(int $i): int {
	return ($i * 7_919) % (YEAR - 86_400);
}

function value(int $i, int $base): mixed {
	return match ($i % 10) {
		0 => '19700101000001',
		1, 2, 3, 4, 5, 6 => gmdate('YmdHis', $base - age($i)),
		7 => $i * 3,
		8 => ['id' => $i, 'title' => "Page $i", 'tags' => ['demo', 'value', (string)($i % 100)]],
		default => str_repeat("text $i ", 1 + $i % 60),
	};
}

/** Seconds; 0: it lives for ever. */
function ttl(int $i): int {
	return match ($i % 10) {
		1, 2, 3, 4, 8 => YEAR - age($i),
		7 => 7 * 86_400,
		default => 0,
	};
}

/** As RedisBagOStuff writes it. */
function stored(mixed $value): string {
	return is_int($value) ? (string)$value : serialize($value);
}

function connected(int $port): Redis {
	$redis = new Redis();
	$redis->connect('127.0.0.1', $port, 5.0, null, 0, 60.0);
	return $redis;
}

function seed(int $port, int $keys, int $base): void {
	$redis = connected($port);
	[$odd, $locks] = [0, 0];
	for ($from = 0; $from < $keys; $from += PAGE) {
		$pipe = $redis->pipeline();
		for ($i = $from; $i < min($from + PAGE, $keys); $i++) {
			$options = ttl($i) > 0 ? ['EX' => ttl($i)] : [];
			$pipe->set(name($i), stored(value($i, $base)), $options);
			if ($i % LOCK_EACH === LOCK_EACH - 1) {
				$pipe->set(name($i) . ':lock', '1', ['EX' => 86_400]);
				$locks++;
			}
			if ($i % ODD_EACH === ODD_EACH - 1) {
				match (intdiv($i, ODD_EACH) % 4) {
					0 => $pipe->set("enwiki:demo:object:$i", 'O:8:"stdClass":0:{}'),
					1 => $pipe->hSet("enwiki:demo:hash:$i", 'field', 'value'),
					2 => $pipe->rPush("enwiki:demo:queue:$i", 'value'),
					3 => $pipe->set("enwiki:demo/slash:$i", 's:1:"x";'),
				};
				$odd++;
			}
		}
		$pipe->exec();
	}
	echo "$odd $locks\n";
}

function walk(int $port): void {
	$redis = connected($port);
	$redis->setOption(Redis::OPT_SCAN, Redis::SCAN_RETRY);
	[$cursor, $seen, $began] = [null, 0, microtime(true)];
	while (($page = $redis->scan($cursor, null, 512)) !== false) {
		$pipe = $redis->pipeline();
		foreach ($page as $key) {
			$pipe->get($key);
			$pipe->pttl($key);
		}
		$pipe->exec();
		$seen += count($page);
	}
	printf("%d %.3f\n", $seen, microtime(true) - $began);
}

/** What RESTBagOStuff sends and reads. */
function body(mixed $value): string {
	return 'JSON..' . json_encode($value);
}

function read(string $body): mixed {
	return str_starts_with($body, 'JSON..') ? json_decode(substr($body, 6), true) : null;
}

function path(string $url, string $key): string {
	return $url . rawurlencode($key);
}

/** Keeps what each key must hold. */
final class Load {
	private array $known = [];
	private array $latencies = ['before' => [], 'during' => []];
	private array $busy = [];
	private int $ops = 0;
	private int $wrong = 0;
	private int $unanswered = 0;
	private int $number = 0;

	public function __construct(private string $url, private int $keys, private int $base, private int $rate, private string $dir) {
	}

	public function run(): void {
		$multi = curl_multi_init();
		$idle = array_map(fn () => curl_init(), range(1, CLIENTS));
		$due = microtime(true);
		while (!file_exists("{$this->dir}/stop") || $this->busy) {
			clearstatcache();
			$now = microtime(true);
			$due = max($due, $now - 0.1);
			while ($idle && $due <= $now && !file_exists("{$this->dir}/stop")) {
				$handle = array_pop($idle);
				curl_multi_add_handle($multi, $handle);
				$this->begin($handle);
				$due += 1 / $this->rate;
			}
			curl_multi_exec($multi, $running);
			while ($done = curl_multi_info_read($multi)) {
				$handle = $done['handle'];
				$this->end($handle, $done['result'] === CURLE_OK ? curl_getinfo($handle, CURLINFO_RESPONSE_CODE) : 0,
					(string)curl_multi_getcontent($handle));
				curl_multi_remove_handle($multi, $handle);
				$idle[] = $handle;
			}
			curl_multi_select($multi, 0.002);
		}
		$told = [$this->ops, $this->wrong, $this->unanswered];
		foreach ($this->latencies as $latencies) {
			sort($latencies);
			foreach ([0.5, 0.99] as $share) {
				$told[] = sprintf('%.1f', ($latencies[(int)(count($latencies) * $share)] ?? 0) / 1_000);
			}
		}
		echo implode(' ', $told) . "\n";
	}

	private function begin(CurlHandle $handle): void {
		do {
			$i = random_int(0, $this->keys - 1);
			// Some keys are asked for again and again.
			$i = random_int(0, 1) ? $i : $i % 500;
		} while (in_array($i, array_column($this->busy, 'i'), true));
		$dice = random_int(1, 100);
		[$method, $value] = match (true) {
			$dice <= 80 => ['GET', null],
			$dice <= 95 => ['POST', gmdate('YmdHis') . ' ' . ++$this->number],
			default => ['DELETE', null],
		};
		curl_reset($handle);
		curl_setopt_array($handle, [
			CURLOPT_URL => path($this->url, name($i)),
			CURLOPT_CUSTOMREQUEST => $method,
			CURLOPT_RETURNTRANSFER => true,
			CURLOPT_TIMEOUT => 20,
		] + ($method === 'POST' ? [CURLOPT_POSTFIELDS => body($value), CURLOPT_HTTPHEADER => ['Content-Type: application/octet-stream']] : []));
		$during = file_exists("{$this->dir}/during");
		$this->busy[spl_object_id($handle)] = compact('i', 'method', 'value', 'during') + ['began' => microtime(true)];
	}

	private function end(CurlHandle $handle, int $status, string $body): void {
		['i' => $i, 'method' => $method, 'value' => $value, 'during' => $during, 'began' => $began] = $this->busy[spl_object_id($handle)];
		unset($this->busy[spl_object_id($handle)]);
		$this->ops++;
		$answered = match ($method) {
			'GET' => $status === 200 || $status === 404,
			'POST' => $status === 201,
			default => $status === 204,
		};
		if (!$answered) {
			$this->unanswered++;
			if ($method !== 'GET') {
				// What it holds, or still will, nobody knows.
				$this->known[$i] = null;
			}
			return;
		}
		$this->latencies[$during ? 'during' : 'before'][] = (microtime(true) - $began) * 1e6;
		if ($method !== 'GET') {
			if (array_key_exists($i, $this->known) && $this->known[$i] === null) {
				return;
			}
			$this->known[$i] = ['value' => $method === 'POST' ? $value : null];
			return;
		}
		if (array_key_exists($i, $this->known) && $this->known[$i] === null) {
			return;
		}
		$wanted = array_key_exists($i, $this->known) ? $this->known[$i]['value'] : value($i, $this->base);
		$found = $status === 404 ? null : read($body);
		if ($found !== $wanted) {
			$this->wrong++;
			say(name($i) . ': ' . json_encode($found) . ' instead of ' . json_encode($wanted));
		}
	}
}

function sample(int $port, string $url, int $keys, int $count): void {
	$redis = connected($port);
	$curl = curl_init();
	$different = 0;
	for ($n = 0; $n < $count; $n++) {
		$key = name(random_int(0, $keys - 1));
		$held = $redis->get($key);
		$wanted = match (true) {
			$held === false => null,
			(bool)preg_match('/^-?\d+$/', $held) => (int)$held,
			default => unserialize($held, ['allowed_classes' => false]),
		};
		curl_setopt_array($curl, [CURLOPT_URL => path($url, $key), CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => 20]);
		$body = curl_exec($curl);
		$status = curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
		$found = match ($status) {
			200 => read((string)$body),
			404 => null,
			default => "status $status",
		};
		if ($found !== $wanted) {
			$different++;
			say("$key: Kask holds " . json_encode($found) . ', Redis ' . json_encode($wanted));
		}
	}
	echo "$count $different\n";
}

$args = array_slice($argv, 2);
match ($argv[1] ?? '') {
	'seed' => seed(...array_map('intval', $args)),
	'walk' => walk((int)$args[0]),
	'load' => (new Load($args[0], (int)$args[1], (int)$args[2], (int)$args[3], $args[4]))->run(),
	'sample' => sample((int)$args[0], $args[1], (int)$args[2], (int)$args[3]),
	default => exit("see the head of this file\n"),
};
