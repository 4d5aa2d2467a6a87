<?php
// RedisBagOStuff with the option "prefix", which MediaWiki has after 1.39: its connections get it as Redis::OPT_PREFIX.

declare( strict_types=1 );

namespace Decant;

class PrefixedRedisBagOStuff extends \RedisBagOStuff {
	private string $prefix;

	public function __construct( array $params ) {
		$this->prefix = $params['prefix'];
		parent::__construct( $params );
	}

	protected function getConnection( $key ) {
		$conn = parent::getConnection( $key );
		if ( $conn ) {
			$conn->setOption( \Redis::OPT_PREFIX, $this->prefix );
		}
		return $conn;
	}
}
