SELECT 'Bazaar 100%' AS name, 'EUR' AS currency_code, NULL AS domain;
