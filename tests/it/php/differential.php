<?php
// Answers, line by line, what PHP makes of bytes. All bytes travel as "x" and their hexadecimal digits; "-" is a refusal.
//   v BYTES       -> serialize(unserialize(BYTES)) and json_encode(unserialize(BYTES))
//   u BYTES       -> serialize(unserialize(BYTES))
//   j BYTES       -> serialize(json_decode(BYTES, true))
//   k BYTES       -> rawurlencode(BYTES)
//   h KEY         -> the base64 of the HMAC of a fixed payload under KEY
//   c BYTES       -> the integer that BYTES are to RedisBagOStuff, if they are one
//   g SEED COUNT  -> COUNT lines: a random value's serialize and json_encode
error_reporting(0);

function bytes($bytes) {
	return $bytes === false ? '-' : 'x' . bin2hex($bytes);
}

/** The value and whether there is one: a stored false looks like a refusal. */
function unserialized($bytes) {
	try {
		$value = unserialize($bytes, ['allowed_classes' => false, 'max_depth' => 512]);
	} catch (Throwable $refused) {
		return [false, false];
	}
	return [$value, $value !== false || strncmp($bytes, 'b:0;', 4) === 0];
}

function bytes_at_random($max) {
	$bytes = '';
	for ($left = mt_rand(0, $max); $left > 0; $left--) {
		switch (mt_rand(0, 9)) {
			case 0: $bytes .= chr(mt_rand(0, 255)); break;
			case 1: $bytes .= chr(mt_rand(0, 31)); break;
			case 2: $bytes .= ["\u{e9}", "\u{20ac}", "\u{1f600}", "\u{10ffff}", "\u{2028}"][mt_rand(0, 4)]; break;
			case 3: $bytes .= '"/\\;:{}<&\''[mt_rand(0, 9)]; break;
			default: $bytes .= chr(mt_rand(32, 126));
		}
	}
	return $bytes;
}

function float_at_random() {
	switch (mt_rand(0, 6)) {
		case 0: return unpack('d', pack('V2', mt_rand(0, 0xffffffff), mt_rand(0, 0xffffffff)))[1];
		case 1: return mt_rand(-100000, 100000) / 10 ** mt_rand(0, 8);
		case 2: return (float)mt_rand(-1000, 1000);
		case 3: return mt_rand(1, 99) * 10.0 ** mt_rand(-30, 30);
		case 4: return 2.0 ** mt_rand(-1074, 1023);
		case 5: return mt_rand() / mt_getrandmax();
		default: return [0.0, -0.0, INF, -INF, NAN, PHP_FLOAT_MAX, PHP_FLOAT_MIN, PHP_FLOAT_EPSILON][mt_rand(0, 7)];
	}
}

function int_at_random() {
	switch (mt_rand(0, 3)) {
		case 0: return mt_rand(-9, 9);
		case 1: return [PHP_INT_MAX, PHP_INT_MIN, PHP_INT_MAX - 1, PHP_INT_MIN + 1][mt_rand(0, 3)];
		case 2: return unpack('q', pack('V2', mt_rand(0, 0xffffffff), mt_rand(0, 0xffffffff)))[1];
		default: return mt_rand(-1000000, 1000000);
	}
}

function key_at_random() {
	switch (mt_rand(0, 4)) {
		case 0: return int_at_random();
		case 1: return (string)int_at_random();
		case 2: return ['', '-0', '00', '05', '-5', '+5', ' 5', '5 ', '1.5', '9223372036854775808', '-9223372036854775809'][mt_rand(0, 10)];
		default: return bytes_at_random(6);
	}
}

function value_at_random($depth) {
	switch (mt_rand(0, $depth > 0 ? 9 : 6)) {
		case 0: return null;
		case 1: return (bool)mt_rand(0, 1);
		case 2: return int_at_random();
		case 3: return float_at_random();
		case 4: return (string)int_at_random();
		case 5: case 6: return bytes_at_random(20);
		case 7:
			$list = [];
			for ($left = mt_rand(0, 5); $left > 0; $left--) $list[] = value_at_random($depth - 1);
			return $list;
		default:
			$array = [];
			for ($left = mt_rand(0, 5); $left > 0; $left--) $array[key_at_random()] = value_at_random($depth - 1);
			return $array;
	}
}

function answer($op, $argument) {
	switch ($op) {
		case 'v':
			[$value, $found] = unserialized($argument);
			return $found ? bytes(serialize($value)) . ' ' . bytes(json_encode($value)) : '- -';
		case 'u':
			[$value, $found] = unserialized($argument);
			return $found ? bytes((string)serialize($value)) : '-';
		case 'j':
			$value = json_decode($argument, true);
			return json_last_error() === JSON_ERROR_NONE ? bytes(serialize($value)) : '-';
		case 'k':
			return bytes(rawurlencode($argument));
		case 'h':
			return bytes(base64_encode(hash_hmac('sha256', 'payload', $argument, true)));
		case 'c':
			return $argument === (string)(int)$argument ? bytes((string)(int)$argument) : '-';
	}
}

while (($line = fgets(STDIN)) !== false) {
	[$op, $argument] = explode(' ', rtrim($line, "\n"), 2);
	if ($op === 'g') {
		[$seed, $count] = explode(' ', $argument);
		mt_srand((int)$seed);
		while ($count-- > 0) {
			$value = value_at_random(4);
			fwrite(STDOUT, bytes(serialize($value)) . ' ' . bytes(json_encode($value)) . "\n");
		}
	} else {
		fwrite(STDOUT, answer($op, hex2bin(substr($argument, 1))) . "\n");
	}
}
