<?php
// A stand-in for decant in the phase kask-first, as MediaWiki itself would write it: it transcodes with MediaWiki's own
// classes, one request at a time. The scenarios are checked against it before they judge decant, and each fault
// below, planted in it, must make a scenario fail.
//
//   php -S ADDRESS standin.php    with REDIS_SOCKET, SERIALIZATION (JSON or PHP), HMAC_KEY, and FAULT (a name used below, or empty)
//
// Redis is database 0 of the server; database 1 plays Kask. /echoseen/v1/ is decant, /kask/v1/ is Kask itself.

declare( strict_types=1 );

namespace Decant;

ini_set( 'display_errors', 'stderr' );
require __DIR__ . '/library.php';

/** @return bool whether the fault with this name is planted */
function fault( string $name ): bool {
	return getenv( 'FAULT' ) === $name;
}

class Standin {
	private \Redis $redis;
	private \Redis $kask;
	private \RESTBagOStuff $rest;

	public function __construct() {
		$this->redis = new \Redis;
		$this->redis->connect( getenv( 'REDIS_SOCKET' ) );
		$this->kask = new \Redis;
		$this->kask->connect( getenv( 'REDIS_SOCKET' ) );
		$this->kask->select( 1 );
		$this->rest = new \RESTBagOStuff( [
			'url' => 'http://unused.invalid/', 'stats' => new NoStats,
			'serialization_type' => getenv( 'SERIALIZATION' ), 'hmac_key' => getenv( 'HMAC_KEY' ),
		] );
	}

	public function answer( string $method, string $path, string $body ): void {
		if ( $path === '/metrics' ) {
			echo 'decant_untranscodable_total{stash="echoseen"} ' . (int)$this->kask->get( "\0untranscodable" ) . "\n";
			return;
		}
		[ , $base, , $spelled ] = explode( '/', $path, 4 );
		$key = fault( 'plus is a space' ) ? urldecode( $spelled ) : rawurldecode( $spelled );
		$key = fault( 'keys decoded twice' ) ? rawurldecode( $key ) : $key;
		match ( $method ) {
			'GET' => $this->get( $key, $base === 'kask' ),
			'POST' => $this->set( $key, $body ),
			'DELETE' => $this->delete( $key, $base === 'kask' ),
		};
	}

	private function get( string $key, bool $kaskOnly ): void {
		$body = $this->kask->get( $key );
		$tier = 'kask';
		if ( $body === false && !$kaskOnly ) {
			$tier = 'redis';
			$bytes = $this->redis->get( $key );
			$body = $bytes === false ? false : $this->toKask( $bytes );
			if ( $body !== false && !fault( 'no repair' ) ) {
				$this->kask->set( $key, $body );
			}
		}
		if ( $body === false ) {
			http_response_code( 404 );
			return;
		}
		header( 'Content-Type: application/octet-stream' );
		header( "Decant-Tier: $tier" );
		echo $body;
	}

	private function set( string $key, string $body ): void {
		if ( !fault( 'redis not written' ) ) {
			$this->redis->set( $key, $this->toRedis( $body ) );
		}
		$this->kask->set( $key, $body );
		http_response_code( 201 );
	}

	private function delete( string $key, bool $kaskOnly ): void {
		if ( !$kaskOnly && !fault( 'redis not deleted' ) ) {
			$this->redis->del( $key );
		}
		if ( !fault( 'kask not deleted' ) || $kaskOnly ) {
			$this->kask->del( $key );
		}
		http_response_code( 204 );
	}

	private function toRedis( string $body ): string {
		$value = ( new \ReflectionMethod( $this->rest, 'decodeBody' ) )->invoke( $this->rest, $body );
		if ( fault( 'bytes copied' ) ) {
			return $body;
		}
		return is_int( $value ) && !fault( 'ints not raw' ) ? (string)$value : serialize( $value );
	}

	/** @return string|false the body that MediaWiki would have written; false where there is none */
	private function toKask( string $bytes ) {
		if ( fault( 'bytes copied' ) ) {
			return $bytes;
		}
		$isInt = (string)(int)$bytes === $bytes;
		$json = getenv( 'SERIALIZATION' ) === 'JSON';
		try {
			if ( $json && !$isInt && !fault( 'objects into JSON' ) && preg_match( '/(^|[;{])[OrR]:\d/', $bytes ) ) {
				throw new \InvalidArgumentException( 'an object or a reference' );
			}
			$value = $isInt ? (int)$bytes : unserialize( $bytes );
			$value = fault( 'types collapsed' ) && is_string( $value ) && is_numeric( $value ) ? 0 + $value : $value;
			$body = ( new \ReflectionMethod( $this->rest, 'encodeBody' ) )->invoke( $this->rest, $value );
			return fault( 'slashes bare' ) ? str_replace( '\/', '/', $body ) : $body;
		} catch ( \InvalidArgumentException $e ) {
			if ( !fault( 'no metric' ) ) {
				$this->kask->incr( "\0untranscodable" );
			}
			return false;
		}
	}
}

( new Standin )->answer( $_SERVER['REQUEST_METHOD'], $_SERVER['REQUEST_URI'], file_get_contents( 'php://input' ) );
