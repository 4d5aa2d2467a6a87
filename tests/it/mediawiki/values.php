<?php
// Values to store: one of every PHP type, and as many random ones as asked for.

declare( strict_types=1 );

namespace Decant;

/** @return array<string,mixed> what JSON carries, by name; every value is one that both stores can hold */
function plainValues(): array {
	return [
		'null' => null, 'true' => true, 'false (reads as a miss)' => false,
		'int 0' => 0, 'int 1' => 1, 'int -7' => -7, 'int max' => PHP_INT_MAX, 'int min' => PHP_INT_MIN,
		'int that looks like a seen time' => 20191018142328,
		'float 1.5' => 1.5, 'float 0.1' => 0.1, 'float 0.1 + 0.2' => 0.1 + 0.2, 'float 1.0 (JSON makes it an int)' => 1.0,
		'float -0.0' => -0.0, 'float 1e100' => 1e100, 'float 1e22' => 1e22, 'float 1e15' => 1e15, 'float 1e-7' => 1e-7,
		'float 2^63' => 9223372036854775808.0, 'float largest' => PHP_FLOAT_MAX, 'float smallest' => 5e-324,
		'string empty' => '', 'string ascii' => 'abc', 'string seen time' => '20191018142328',
		'string 42' => '42', 'string 007' => '007', 'string -0' => '-0', 'string +1' => '+1', 'string 1e3' => '1e3',
		'string int max + 1' => '9223372036854775808', 'string with spaces' => ' 1 ',
		'string like serialize' => 's:3:"abc";', 'string like an int serialized' => 'i:1;', 'string like false' => 'b:0;',
		'string like an envelope' => 'JSON..42', 'string like a signed envelope' => 'PHP.YWJj.i:1;', 'string dots' => '...',
		'string quotes' => "\"'\\/<>&", 'string controls' => "\0\1\x08\t\n\x0b\x0c\r\x1f\x7f",
		'string café 😀' => "caf\u{e9} / \u{1f600} \u{2028}\u{2029}\u{feff}", 'string edge of planes' => "\u{ffff}\u{10000}\u{10ffff}",
		'string of 3000 bytes' => str_repeat( 'kask ', 600 ), 'string of 1.2 MiB' => str_repeat( "pour\n", 251659 ),
		'array empty' => [], 'array list' => [ 1, 'two', 3.5, null, true, false ],
		'array map' => [ 'a' => 1, 'b' => [ 1, 2 ], '' => 'empty key' ],
		'array int keys with gaps' => [ 5 => 'five', 7 => 'seven' ], 'array from one' => [ 1 => 'a', 2 => 'b' ],
		'array reversed' => [ 1 => 'b', 0 => 'a' ], 'array negative key' => [ -3 => 'x', 0 => 'y' ],
		'array mixed keys' => [ 'x' => 1, 0 => 2, '01' => 3, '-0' => 4, PHP_INT_MIN => 5, '9223372036854775808' => 6 ],
		'array utf-8 keys' => [ "cl\u{e9}" => 'valeur', "a\0b" => 1, 'a/b' => 2 ],
		'array of empties' => [ [], [ [] ], [ '' => [] ] ], 'array 100 deep' => deep( 100 ),
		'session' => [ 'data' => [ 'wsUserID' => 7, 'wsToken' => 'x' ], 'metadata' => [ 'provider' => 'P', 'expires' => 1700000000 ] ],
	];
}

/** @return array<string,mixed> what JSON cannot carry without changing it, by name; PHP serialization can */
function hardValues(): array {
	return [
		'object' => (object)[ 'p' => 1 ], 'object empty' => (object)[], 'object nested' => [ 'a' => [ 'b' => (object)[ 'c' => [] ] ] ],
		'object in an object' => (object)[ 'o' => (object)[ '0' => 1 ] ],
		'string invalid utf-8' => "\xff\xfe", 'string cut utf-8' => "caf\xc3", 'string surrogate' => "\xed\xa0\x80",
		'string overlong' => "\xc0\xaf", 'array with an invalid string' => [ 'ok', "\x80" ], 'array with an invalid key' => [ "\xff" => 1 ],
		'float INF' => INF, 'float -INF' => -INF, 'float NAN' => NAN, 'array with INF' => [ 1.5, INF ],
	] + sharedValues();
}

/** @return array<string,mixed> what is in a value twice, or inside itself; PHP writes a reference (r or R) */
function sharedValues(): array {
	$object = (object)[ 'p' => 1 ];
	$list = [ 1, 2 ];
	$list[2] = &$list[0];
	return [ 'the same object twice' => [ $object, $object ], 'array with a reference' => $list ];
}

/** @return array<string,mixed> deeper than JSON goes in PHP (512) */
function deepValues(): array {
	return [ 'array 600 deep' => deep( 600 ) ];
}

function deep( int $levels ): array {
	$value = [];
	for ( $level = 1; $level < $levels; $level++ ) {
		$value = [ $value ];
	}
	return $value;
}

/** Random keys and values, the same for the same seed. */
class Dice {
	private bool $hard;

	/** @param bool $hard whether to make what JSON cannot carry, too */
	public function __construct( int $seed, bool $hard ) {
		mt_srand( $seed );
		$this->hard = $hard;
	}

	/** @return string[] components of a key: colon, percent, space, plus and UTF-8 among them */
	public function keyComponents(): array {
		static $bits = [ ':', '%', ' ', '+', '%3A', '%25', '%2B', '.', '-', '_', '~', '?', '#', '&', '=', '"', "'", '\\', '|', '*', '@', ';', ',', '$', '!',
			'(', ')', '[', '{', '<', '^', '`', "\u{e9}", "\u{1f600}", "\u{4e2d}\u{6587}", "\u{a0}", 'echo', 'seen', 'A', 'z', '0', '42' ];
		$components = [];
		for ( $i = mt_rand( 1, 3 ); $i > 0; $i-- ) {
			$component = '';
			for ( $j = mt_rand( 0, 8 ); $j > 0; $j-- ) {
				$component .= $bits[ mt_rand( 0, count( $bits ) - 1 ) ];
			}
			$components[] = $component;
		}
		return $components;
	}

	public function value( int $depth = 0 ): mixed {
		$kind = mt_rand( 0, $depth < 4 ? 12 : 8 );
		if ( $kind <= 2 ) {
			return $this->text();
		} elseif ( $kind <= 4 ) {
			return $this->int();
		} elseif ( $kind <= 6 ) {
			return $this->float();
		} elseif ( $kind === 7 ) {
			return mt_rand( 0, 1 ) === 1 ? true : null;
		} elseif ( $kind === 8 ) {
			return (string)$this->int();
		} elseif ( $kind <= 10 ) {
			return $this->listOf( $depth );
		} elseif ( $kind === 11 && $this->hard ) {
			return (object)$this->map( $depth );
		}
		return $this->map( $depth );
	}

	private function int(): int {
		return match ( mt_rand( 0, 3 ) ) {
			0 => mt_rand( -10, 10 ),
			1 => mt_rand( -mt_getrandmax(), mt_getrandmax() ),
			2 => mt_rand( PHP_INT_MIN, PHP_INT_MAX ),
			3 => PHP_INT_MAX - mt_rand( 0, 3 ),
		};
	}

	private function float(): float {
		return match ( mt_rand( 0, 3 ) ) {
			0 => (float)mt_rand( -1000, 1000 ),
			1 => mt_rand( -100000, 100000 ) / 1000,
			2 => mt_rand() / mt_getrandmax() * 10 ** mt_rand( -30, 30 ),
			3 => $this->anyFloat(),
		};
	}

	/** A float from 64 random bits; finite. */
	private function anyFloat(): float {
		do {
			$float = unpack( 'd', pack( 'q', mt_rand( PHP_INT_MIN, PHP_INT_MAX ) ) )[1];
		} while ( !is_finite( $float ) );
		return $float;
	}

	private function text(): string {
		$text = '';
		for ( $i = mt_rand( 0, 12 ); $i > 0; $i-- ) {
			$text .= match ( mt_rand( 0, $this->hard ? 4 : 3 ) ) {
				0, 1 => chr( mt_rand( 0, 127 ) ),
				2 => mb( mt_rand( 0x80, 0xd7ff ) ),
				3 => mb( mt_rand( 0xe000, 0x10ffff ) ),
				4 => chr( mt_rand( 128, 255 ) ),
			};
		}
		return $text;
	}

	private function listOf( int $depth ): array {
		$list = [];
		for ( $i = mt_rand( 0, 5 ); $i > 0; $i-- ) {
			$list[] = $this->value( $depth + 1 );
		}
		return $list;
	}

	private function map( int $depth ): array {
		$map = [];
		for ( $i = mt_rand( 0, 5 ); $i > 0; $i-- ) {
			// A property name that begins with NUL is PHP's mark of a private one, and fatal in a cast to an object.
			$key = mt_rand( 0, 2 ) === 0 ? mt_rand( -5, 20 ) : ltrim( $this->text(), "\0" );
			$map[$key] = $this->value( $depth + 1 );
		}
		return $map;
	}
}

/** A code point as UTF-8, without the mbstring extension. */
function mb( int $codePoint ): string {
	return json_decode( $codePoint < 0x10000
		? sprintf( '"\\u%04x"', $codePoint )
		: sprintf( '"\\u%04x\\u%04x"', 0xd800 + ( ( $codePoint - 0x10000 ) >> 10 ), 0xdc00 + ( $codePoint & 0x3ff ) ) );
}
